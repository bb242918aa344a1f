import json
import pickle
import re
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights

from zoo.errors import UserError
from zoo.models import factories
from zoo.models import imported as imported_models
from zoo.models.checkpoint import read_checkpoint
from zoo.models.files import load_model, save_model
from zoo.models.imported import ImportOptions, import_model
from zoo.models.untrained import before_training


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("test_vit").eval()


@pytest.fixture
def weights(folder, vit):
    save_file(vit.state_dict(), folder / "vit.safetensors")
    return folder / "vit.safetensors"


def comes_back(imported, folder):
    """Save and load it as the registry does."""
    save_model(folder / "saved", imported.module, imported.spec)
    return load_model(folder / "saved")


def test_a_timm_model_with_given_weights_comes_back_bit_for_bit(vit, weights, folder):
    imported = import_model("timm:test_vit", "vit", ImportOptions(weights=weights))
    loaded, x = comes_back(imported, folder), torch.randn(1, 3, 160, 160)
    assert torch.equal(loaded.module(x), vit(x))
    assert loaded.spec.class_names[999].startswith("toilet tissue")


def test_a_tag_says_whose_weights_a_file_holds_and_no_tag_says_nothing(weights):
    tagged = import_model(
        "timm:test_vit.r160_in1k", "vit", ImportOptions(weights=weights)
    ).spec.origin
    plain = import_model("timm:test_vit", "vit", ImportOptions(weights=weights)).spec.origin
    assert tagged["licence"] == "apache-2.0"
    assert tagged["url"] == "https://huggingface.co/timm/test_vit.r160_in1k"
    assert set(plain) == {"source", "weights_sha256"}


def test_a_fine_tuned_classifier_is_kept(folder):
    module = timm.create_model("test_vit", num_classes=3).eval()
    save_file(module.state_dict(), folder / "fine.safetensors")
    given = ImportOptions(weights=folder / "fine.safetensors", class_names=["a", "b", "c"])
    loaded, x = (
        comes_back(import_model("timm:test_vit", "v", given), folder),
        torch.randn(1, 3, 160, 160),
    )
    assert torch.equal(loaded.module(x), module(x))
    assert loaded.spec.class_names == ["a", "b", "c"]
    with pytest.raises(UserError, match="has 3 outputs, that of timm:test_vit 1,000: say --cl"):
        import_model("timm:test_vit", "v", ImportOptions(weights=folder / "fine.safetensors"))


def test_no_classes_mean_features(folder):
    module = timm.create_model("test_vit", num_classes=0).eval()
    save_file(module.state_dict(), folder / "features.safetensors")
    given = ImportOptions(weights=folder / "features.safetensors", class_names=[])
    loaded, x = (
        comes_back(import_model("timm:test_vit", "v", given), folder),
        torch.randn(1, 3, 160, 160),
    )
    assert torch.equal(loaded.module(x), module(x))
    assert loaded.spec.class_names == []


def test_a_folder_in_timms_format_comes_back_with_its_own_settings(folder):
    module = timm.create_model("test_vit", num_classes=3, img_size=32, depth=2).eval()
    config = {"num_classes": 3, "label_names": ["x", "y", "z"], "mean": [0.1, 0.2, 0.3]}
    config |= {"input_size": [3, 32, 32], "license": "mit", "crop_pct": 0.75}
    arguments = {"img_size": 32, "depth": 2, "num_classes": 3}
    timm.models.save_for_hf(
        module, folder / "mine", {"pretrained_cfg": config, "model_args": arguments}
    )
    saved = json.loads((folder / "mine" / "config.json").read_text())
    assert saved["architecture"] == "test_vit"
    imported = import_model(f"local-dir:{folder / 'mine'}", "v", ImportOptions())
    loaded, x = comes_back(imported, folder), torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded.module(x), module(x))
    spec = loaded.spec
    assert (spec.class_names, spec.image_size, spec.crop_fraction) == (["x", "y", "z"], 32, 0.75)
    assert spec.mean == [0.1, 0.2, 0.3]
    assert spec.kwargs["depth"] == 2
    assert not {"img_size", "num_classes", "in_chans"} & spec.kwargs.keys()
    assert spec.origin == {"source": "local-dir:mine", "licence": "mit"}


def test_torchvision_weights_from_a_training_programs_file(folder):
    module = get_model("squeezenet1_1", num_classes=4).eval()
    wrapped = {f"module.{key}": value for key, value in module.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, folder / "w.pth")
    given = ImportOptions(weights=folder / "w.pth", class_names=list("abcd"))
    imported = import_model("torchvision:squeezenet1_1", "s", given)
    loaded, x = comes_back(imported, folder), torch.randn(1, 3, 224, 224)
    assert torch.equal(loaded.module(x), module(x))
    assert "as for ImageNet (224 of 256 px, its mean and std)" in imported.notes[0]
    assert (loaded.spec.image_size, loaded.spec.crop_fraction) == (224, 224 / 256)
    assert loaded.spec.mean == [0.485, 0.456, 0.406]


def test_the_name_of_published_weights_says_how_to_preprocess(folder):
    module = get_model("mobilenet_v3_small")
    torch.save(module.state_dict(), folder / "w.pth")
    given = ImportOptions(weights=folder / "w.pth")
    imported = import_model("torchvision:mobilenet_v3_small.IMAGENET1K_V1", "m", given)
    entry = get_model_weights("mobilenet_v3_small").IMAGENET1K_V1
    assert not imported.notes
    assert imported.spec.origin["url"] == entry.url


def test_googlenets_classifiers_for_training_are_left_out(folder):
    module = get_model("googlenet", init_weights=False, aux_logits=True, transform_input=True)
    torch.save(module.state_dict(), folder / "w.pth")
    imported = import_model("torchvision:googlenet", "g", ImportOptions(weights=folder / "w.pth"))
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(imported.module(x), module.eval()(x))
    assert not any(name.startswith("aux") for name, _ in imported.module.named_modules())


def test_weights_with_nan_are_refused(vit, folder):
    broken = {name: t.clone() for name, t in vit.state_dict().items()}
    broken["blocks.1.mlp.fc1.weight"][3, 2] = float("nan")
    save_file(broken, folder / "nan.safetensors")
    with pytest.raises(UserError, match=r"timm:test_vit: 'blocks.1.mlp.fc1.weight' holds NaN"):
        import_model("timm:test_vit", "v", ImportOptions(weights=folder / "nan.safetensors"))


def test_of_weights_that_do_not_fit_both_sides_are_named(vit, folder):
    strange = {f"trunk_{i}": t for i, t in enumerate(vit.state_dict().values())}
    save_file(strange, folder / "w.safetensors")
    torch.save({f"net_{i}": t for i, t in enumerate(strange.values())}, folder / "w.pth")
    for source, file in (("timm:test_vit", "w.safetensors"), ("torchvision:resnet18", "w.pth")):
        with pytest.raises(UserError, match="weights do not fit") as raised:
            import_model(source, "v", ImportOptions(weights=folder / file))
        assert re.search(r"Missing key.*Unexpected key.*(trunk|net)_", str(raised.value))
        assert len(str(raised.value)) < 500


def test_a_folder_of_another_librarys_is_named(folder):
    (folder / "vit").mkdir()
    (folder / "vit" / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    with pytest.raises(UserError, match=r"its config\.json names no `architecture`; name the"):
        import_model("local-dir:vit", "v", ImportOptions())


@pytest.fixture
def factory(folder, monkeypatch):
    (folder / "zoo_own_nets.py").write_text(
        "from torch import nn\n"
        "def make(width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.Linear(width, 3))\n"
        "def maps(): return nn.Conv2d(3, 3, 1)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 3))
    torch.save(module.state_dict(), folder / "own.pt")
    torch.save(nn.Conv2d(3, 3, 1).state_dict(), folder / "maps.pt")
    yield module
    sys.modules.pop("zoo_own_nets", None)


def test_a_factory_of_ones_own(folder, factory):
    given = ImportOptions(weights=folder / "own.pt", image_size=4, kwargs={"width": 5})
    imported = import_model("zoo_own_nets:make", "mine", given)
    factories.trust("zoo_own_nets:make", {"width": 5})
    loaded, x = comes_back(imported, folder), torch.randn(2, 3, 4, 4)
    assert torch.equal(loaded.module(x), factory(x))
    assert loaded.spec.class_names == ["class 0", "class 1", "class 2"]
    assert (loaded.spec.arch, loaded.spec.kwargs) == ("zoo_own_nets:make", {"width": 5})
    assert loaded.spec.origin["package"] == "zoo_own_nets"
    assert "scaled to 0..1" in imported.notes[0]


def test_a_loader_of_ones_own_brings_its_weights(folder, factory):
    (folder / "zoo_own_loader.py").write_text(
        "import torch\nfrom zoo_own_nets import make\n"
        "def load():\n"
        "    net = make(5)\n"
        f"    net.load_state_dict(torch.load({str(folder / 'own.pt')!r}))\n"
        "    return net\n"
    )
    imported = import_model("zoo_own_loader:load", "mine", ImportOptions(image_size=4))
    factories.trust("zoo_own_loader:load", {})
    loaded, x = comes_back(imported, folder), torch.randn(2, 3, 4, 4)
    assert torch.equal(loaded.module(x), factory(x))
    assert imported.notes[0] == "its weights are those that zoo_own_loader:load returns"
    assert before_training(loaded) is None
    sys.modules.pop("zoo_own_loader", None)


def test_an_imported_network_has_its_untrained_baseline(folder, factory, weights, vit):
    imported = import_model("timm:test_vit", "vit", ImportOptions(weights=weights))
    untrained = before_training(comes_back(imported, folder))
    torch.manual_seed(0)
    fresh = timm.create_model("test_vit").state_dict()
    assert all(torch.equal(t, fresh[k]) for k, t in untrained.module.state_dict().items())
    given = ImportOptions(weights=folder / "own.pt", image_size=4, kwargs={"width": 5})
    own = import_model("zoo_own_nets:make", "mine", given)
    factories.trust("zoo_own_nets:make", {"width": 5})
    assert before_training(comes_back(own, folder)) is not None


def test_torchvisions_published_weights_without_their_classifier_come_back(folder, monkeypatch):
    module = get_model("squeezenet1_1").eval()
    monkeypatch.setattr(imported_models, "create_torchvision", lambda *_, **__: module)
    imported = import_model("torchvision:squeezenet1_1", "s", ImportOptions(no_head=True))
    loaded, x = comes_back(imported, folder), torch.randn(1, 3, 224, 224)
    assert loaded.module(x).shape == (1, 512)
    assert torch.equal(loaded.module(x), imported.module(x))


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("resnet18", {}, "expected a source as timm:NAME"),
        ("torchvision:resnet19", {}, "did you mean 'resnet1"),
        ("torchvision:resnet18.V9", {}, "unknown weights of torchvision:resnet18 'V9'"),
        ("local-dir:nowhere", {}, "local-dir:nowhere holds no model"),
        ("local-dir:nowhere", {"weights": "own.pt"}, "leave out --weights"),
        ("zoo_own_nets:nix", {}, "cannot import zoo_own_nets:nix: AttributeError"),
        ("zoo_no_nets:make", {}, "zoo_no_nets:make needs the Python package zoo_no_nets"),
        ("zoo_own_nets:make", {}, "expected --image-size with a factory or loader"),
        ("zoo_own_nets:make", {"image_size": 4}, "returns other weights each time, as an untrain"),
        ("zoo_own_nets:make", {"no_head": True, "image_size": 4}, "in your own code, not by"),
        ("timm:test_vit", {"key": "model"}, "say which weights of a file: name it by --weights"),
        ("zoo_own_nets:make", {"weights": "own.pt", "image_size": 4}, "weights do not fit"),
        ("zoo_own_nets:maps", {"weights": "maps.pt", "image_size": 4}, r"got \(1, 3, 4, 4\)"),
        (
            "zoo_own_nets:make",
            {"weights": "own.pt", "image_size": 8, "kwargs": {"width": 5}},
            "does not take an image of 8 px",
        ),
        (
            "zoo_own_nets:make",
            {"weights": "own.pt", "image_size": 4, "kwargs": {"width": 5}, "class_names": ["a"]},
            "expected class names for 3 outputs, got 1",
        ),
        ("timm:test_vit", {"weights": "own.pt"}, "the weights do not fit it"),
        ("timm:test_vit", {"weights": "own.npz"}, r"--weights: expected a file, got"),
        (
            "zoo_own_nets:make",
            {"weights": "own.pt", "image_size": 4, "kwargs": {"width": 5}, "mean": [1.0]},
            "expected 3 means",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_line(folder, factory, source, given, message):
    if "weights" in given:
        given = given | {"weights": folder / given["weights"]}
    with pytest.raises(UserError, match=message) as raised:
        import_model(source, "m", ImportOptions(**given))
    assert len(str(raised.value)) < 700


class Evil:
    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_file_with_code_in_it_is_refused_and_does_not_run(folder, suffix):
    torch.save({"weight": Evil()}, folder / f"evil{suffix}")
    with pytest.raises(UserError, match="got something else in 'weight'"):
        read_checkpoint(folder / f"evil{suffix}")
    (folder / f"raw{suffix}").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(UserError, match=r"is not a plain state_dict .*; download it again"):
        read_checkpoint(folder / f"raw{suffix}")
    assert not (folder / "ran").exists()


def test_what_is_not_a_tensor_is_refused(folder):
    torch.save({"weight": torch.zeros(2), "notes": "text"}, folder / "w.pt")
    with pytest.raises(UserError, match="expected a network's weights; got something else in 'no"):
        read_checkpoint(folder / "w.pt")
