"""`zoo transfer`, as a user meets it."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.data.subsets import load_subset
from zoo.models.files import load_model, save_model
from zoo.models.spec import SPEC, read_spec


@pytest.fixture
def project(tmp_path, monkeypatch, make_model):
    """A folder with one model, and pictures of two classes."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    model = make_model("vit", "vit-small", class_names=list("abcdefghij"))
    save_model(tmp_path / "models" / "vit-small", model.module, model.spec)
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, mean in (("dark", 60), ("light", 190)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                picture = random.normal(mean, 20, (20, 24, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / f"{i}.png")
    return tmp_path


@pytest.fixture
def zoo(project, monkeypatch, capsys):
    """Run the command line; return what it printed on stdout, or on stderr where it failed."""

    def run(*arguments, status=0):
        monkeypatch.setattr("sys.argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == status, printed.out + printed.err
        return printed.out if status == 0 else printed.err

    return run


def test_a_model_is_taken_to_pictures_and_registered(zoo, project):
    printed = zoo("transfer", "models/vit-small", "--source", "imagefolder", "--root", "photos",
                  "--epochs", "12", "--learning-rate", "0.003", "--batch-size", "10")  # fmt: skip
    folder = project / "reports" / "transfer-vit-small-on-imagefolder"
    assert printed.startswith("vit-small on imagefolder, fine-tuned on 44 images, seed 0")
    report = json.loads((folder / "report.json").read_text())
    assert report["accuracy"]["after"] > 0.9
    assert report["accuracy"]["most_common"] == 0.5
    line = next(line for line in printed.splitlines() if line.startswith("network after"))
    assert float(line.split()[-1]) == round(report["accuracy"]["after"], 3)
    assert report["command"].startswith("zoo transfer models/vit-small --source imagefolder")
    model = load_model(folder / "model")
    assert model.spec.class_names == ["dark", "light"]
    test = load_subset(folder / "data" / "test")
    right = (model(np.array(test.images)).argmax(1).numpy() == test.labels).mean()
    assert right == report["accuracy"]["after"]
    register = printed.splitlines()[-1].removeprefix("register").split()
    assert register[:2] == ["zoo", "register"]
    listed = json.loads(zoo(*register[1:], "--json"))
    assert [(entry["name"], entry["created"]) for entry in listed] == [
        ("vit-small-on-imagefolder", True)
    ]
    assert listed[0]["digest"] == report["after"]["digest"]


def test_only_the_classifier_may_be_trained(zoo, project):
    report = json.loads(
        zoo("transfer", "models/vit-small", "--source", "digits", "--subset", "40", "--epochs", "2",
            "--freeze", "--name", "probe-1", "--json", "--seed", "3", "--out", "here")
    )  # fmt: skip
    assert report["training"]["freeze"]
    assert report["training"]["learning_rate"] == 0.01
    assert report["images"]["train"] == 40
    assert all(row["cka"] > 0.999999 for row in report["layers"] if row["block"])
    assert read_spec(project / "here" / "model" / SPEC).seed == 3
    assert not (project / "reports").exists()
    assert sorted(p.name for p in project.iterdir()) == ["here", "models", "photos"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["models/vit-small", "--source", "digitz"], "unknown source 'digitz'; did you mean 'digits'"),
    (["models/none", "--source", "digits"], "no model in models/none"),
    (["models/vit-small", "--source", "digits", "--out", "photos"], "photos would be replaced"),
    (["models/vit-small", "--source", "digits", "--subset", "9999"], "9999 images asked for"),
    (["models/vit-small", "--source", "digits", "--name", "a/b"], "name 'a/b': expected letters"),
    (["models/vit-small", "--source", "imagefolder"], "no folder"),
    (["models/vit-small", "--source", "digits", "--subset", "40", "--learning-rate", "1e30"],
     "training diverged"),
])  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(zoo, project, arguments, message):
    error = zoo("transfer", *arguments, status=2)
    assert error.startswith("Error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    reports = project / "reports"
    assert not reports.exists() or not list(reports.iterdir())
