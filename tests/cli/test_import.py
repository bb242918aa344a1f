"""Models in and out on the command line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from zoo.cli import import_
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.models.factories import check_trusted
from zoo.models.files import save_model
from zoo.registry.register import register
from zoo.registry.store import open_store


@pytest.fixture(scope="module")
def shared(tmp_path_factory, make_model, digits_folder):
    """A project with a model of zoo's own and its images in the registry, made once."""
    root = tmp_path_factory.mktemp("imports")
    model = make_model(
        "vit", "vit-small", source="digits",
        test_digest=load_subset(digits_folder / "test").info.digest,
    )  # fmt: skip
    save_model(root / "models" / "vit-small", model.module, model.spec)
    module = timm.create_model("test_vit", img_size=32, num_classes=3, depth=2)
    save_file(module.state_dict(), root / "vit.safetensors")
    (root / "names.txt").write_text("cat\ndog\n\nowl\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        folders = [root / "models" / "vit-small"]
        store = open_store(root)
        for folder in folders:
            register(store, folder, test_folder=digits_folder / "test")
    return root


@pytest.fixture
def here(project, shared, monkeypatch):
    """That project as the working folder."""
    monkeypatch.chdir(shared)
    return shared


@pytest.fixture
def imported(here):
    """The arguments that import a model from elsewhere into it."""
    options = ("--weights", "vit.safetensors", "--image-size", "32", "--kwarg", "depth=2")
    return (
        "import", "timm:test_vit", "--name", "other", "--classes", "names.txt", *options,
        "--mean", "0.1,0.2,0.3", "--std", "0.5,0.5,0.5",
    )  # fmt: skip


def test_what_is_given_stands_in_the_spec(imported, zoo):
    assert "other/1 " in zoo(*imported)
    assert json.loads(zoo(*imported, "--json"))["created"] is False
    spec = json.loads(zoo("show", "other", "--json"))["spec"]
    assert spec["class_names"] == ["cat", "dog", "owl"]
    assert (spec["mean"], spec["image_size"]) == ([0.1, 0.2, 0.3], 32)
    assert spec["kwargs"] == {"depth": 2}
    shown = zoo("show", "other").splitlines()
    assert "32 × 32 pixels, 3 classes" in "\n".join(shown)
    assert not [line for line in shown if line.startswith(("trained on", "seed"))]


def test_a_model_without_a_classifier_is_shown_as_one(imported, zoo):
    zoo(*imported[:3], "headless", "--no-head", *imported[6:])
    assert "32 × 32 pixels, no classifier" in zoo("show", "headless")


def test_an_imported_model_compares_on_the_other_models_images(imported, zoo):
    zoo(*imported)
    options = ("--only", "cka,accuracy", "--images", "16", "--batch-size", "16", "--json")
    report = json.loads(zoo("compare", "other", "vit-small", *options, "--layers", "blocks"))
    assert [model["name"] for model in report["models"]] == ["other", "vit-small"]
    assert report["images"]["source"] == "digits"
    accuracy, _ = report["analyses"]
    (similarity,) = (
        row["value"]
        for row in report["metrics"]
        if (row["measure"], row["network"], row["network_b"])
        == ("mean_all_pairs", "other", "vit-small")
    )
    assert 0 < similarity <= 1
    rated = [row["network"] for row in report["metrics"] if row["analysis"] == "accuracy"]
    assert rated == ["vit-small", "vit-small untrained"]
    assert "other: not rated, since it was trained on other classes" in accuracy["notes"][0]


def test_two_imported_models_say_how_to_name_images(imported, zoo):
    zoo(*imported)
    zoo(*imported[:3], "another", *imported[4:])
    said = zoo("compare", "other", "another", status=2)
    assert "none of these models comes with images" in said
    assert "--data" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "nothing.txt"), "--classes: expected a number or a file of names"),
        (("--mean", "a,b"), "--mean: expected three numbers"),
        (("--std", "1,2"), "--std: expected three numbers as 0.5,0.5,0.5; got '1,2'"),
        (("--kwarg", "num_classes=3"), "timm:test_vit: kwargs hold num_classes, which zoo sets"),
        (("--kwarg", "depth"), "--kwarg: expected KEY=VALUE; got 'depth'"),
        (("--kwarg", "depth=[1"), "--kwarg: "),
        (("--name", "a/b"), "name 'a/b'"),
        (("--weights", "nothing.pth"), "'nothing.pth' does not exist"),
    ],
)
def test_wrong_options_are_one_line(zoo, options, message):
    given = ("import", "timm:test_vit", *(() if "--name" in options else ("--name", "x")))
    said = zoo(*given, *options, status=2)
    assert message in said
    assert said.count("\n") == 1


def test_names_of_classes_are_utf_8_whatever_wrote_them(project, zoo):
    (project / "names.txt").write_bytes("Kühe\nÖl\n".encode("latin-1"))
    given = ("import", "timm:test_vit", "--name", "x", "--classes", "names.txt")
    said = zoo(*given, status=2)
    assert said.startswith("Error: --classes: names.txt is not UTF-8 text (")
    assert said.count("\n") == 1
    (project / "names.txt").write_text("Kühe\nÖl\n", encoding="utf-8-sig")
    assert import_._class_names("names.txt") == ["Kühe", "Öl"]


def test_a_factorys_model_asks_for_trust_elsewhere(project, zoo, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (project / "zoo_cli_nets.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))\n"
    )
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).state_dict(), "mine.pt")
    zoo("import", "zoo_cli_nets:make", "--name", "m", "--weights", "mine.pt", "--image-size", "4")
    Image.new("RGB", (4, 4)).save("black.png")
    pulled = tmp_path_factory.mktemp("pulled")
    zoo("pull", "m", str(pulled))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    said = zoo("predict", str(pulled), str(project / "black.png"), status=2)
    assert "ZOO_TRUST=zoo_cli_nets:make" in said
    monkeypatch.setenv("ZOO_TRUST", "zoo_cli_nets:make")
    assert "class 0" in zoo("predict", str(pulled), str(project / "black.png"))
    sys.modules.pop("zoo_cli_nets")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("zoo_gone_nets:make", "needs the Python package zoo_gone_nets"),
        ("zoo_typo_nets:mak", "cannot import zoo_typo_nets:mak: AttributeError"),
        ("zoo_typo_nets:size", "expected a function or class, got int"),
    ],
)
def test_a_factory_that_is_not_there_is_not_trusted(project, zoo, monkeypatch, factory, said):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (project / "zoo_typo_nets.py").write_text("size = 4\ndef make(): ...\n")
    assert said in zoo("import", factory, "--name", "m", status=2)
    with pytest.raises(UserError):
        check_trusted(factory, {})
    sys.modules.pop("zoo_typo_nets", None)


def test_importing_a_command_does_not_let_a_strangers_model_run_it(project, zoo, make_model):
    """What `zoo import os:system` left in the project was enough to run a command later."""
    model = make_model("vit", "stranger")
    save_model(project / "stranger", model.module, model.spec)
    spec = json.loads((project / "stranger" / "spec.json").read_text())
    spec |= {"arch": "os:system", "kwargs": {"command": "touch ran"}}
    (project / "stranger" / "spec.json").write_text(json.dumps(spec))
    (project / ".zoo").mkdir()
    (project / ".zoo" / "trusted-factories").write_text("os:system\n")
    Image.new("RGB", (4, 4)).save("black.png")
    save_file(model.module.state_dict(), "w.safetensors")
    given = ("--weights", "w.safetensors", "--image-size", "16", "--kwarg", "command=touch ran")
    said = [
        zoo("import", "os:system", "--name", "q", *given, status=2),
        zoo("predict", "./stranger", "black.png", status=2),
    ]
    for line in said:
        assert line.startswith("Error: os:system is of Python's standard library (os)")
        assert line.count("\n") == 1
    assert not (project / "ran").exists()


@pytest.fixture
def photos(here, tmp_path):
    """Images of several sizes, more than a batch of them, and one that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(70):
        size = (20 + i, 40, 3) if i % 2 else (16, 16, 3)
        place = folder / "more" if i >= 35 else folder
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(place / f"{i:02}.png")
    return folder


def test_predictions_are_those_of_the_model_one_by_one(photos, zoo, caplog):
    import zoo as library
    from zoo.data.image_files import read_image

    (photos / "notes.txt").write_text("")
    said = json.loads(zoo("predict", "vit-small", str(photos), "--top", "3", "--json"))
    assert len(said) == 70
    assert "1 file left out (notes.txt): not an image suffix" in caplog.text
    model = library.load("vit-small")
    for each in (said[0], said[33], said[-1]):
        logits = model(read_image(Path(each["image"]))[None]).double().softmax(1)[0]
        best = logits.topk(3)
        assert [c["name"] for c in each["classes"]] == [
            model.spec.class_names[i] for i in best.indices
        ]
        np.testing.assert_allclose(
            [c["probability"] for c in each["classes"]], best.values, atol=1e-6
        )


def test_a_file_that_is_no_image_is_one_line_and_the_others_are_classified(photos, zoo):
    (photos / "broken.png").write_text("no image")
    said = zoo("predict", "vit-small", str(photos), "--top", "1", status=2)
    assert said.count("\n") == 1
    assert "broken.png: damaged image" in said


def test_what_holds_no_images_is_named(here, zoo):
    (here / "no-photos").mkdir()
    assert "no file or folder nowhere.png" in zoo("predict", "vit-small", "nowhere.png", status=2)
    assert "no-photos: no images; expected" in zoo("predict", "vit-small", "no-photos", status=2)
