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
from zoo.models.files import load_model, save_model
from zoo.models.imported import ImportOptions, import_model, read_weights


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
    with pytest.raises(UserError, match="the weights do not fit it"):
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
    assert "preprocessed as for ImageNet" in imported.notes[0]
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
    save_file({f"trunk.{k}": t for k, t in vit.state_dict().items()}, folder / "w.safetensors")
    torch.save({f"net.{k}": t for k, t in vit.state_dict().items()}, folder / "w.pth")
    for source, file in (("timm:test_vit", "w.safetensors"), ("torchvision:resnet18", "w.pth")):
        with pytest.raises(UserError, match="weights do not fit") as raised:
            import_model(source, "v", ImportOptions(weights=folder / file))
        assert re.search(r"Missing key.*Unexpected key.*(trunk|net)\.", str(raised.value))
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
        ("zoo_own_nets:make", {}, "expected --weights and --image-size"),
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
        ("timm:test_vit", {"weights": "own.npz"}, r"expected a file .safetensors, .pth"),
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
    with pytest.raises(
        UserError, match=r"is not a plain state_dict, or is damaged .*; download it"
    ):
        read_weights(folder / f"evil{suffix}")
    (folder / f"raw{suffix}").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(UserError, match="is not a plain state_dict, or is damaged"):
        read_weights(folder / f"raw{suffix}")
    assert not (folder / "ran").exists()


def test_what_is_not_a_tensor_is_refused(folder):
    torch.save({"weight": torch.zeros(2), "notes": "text"}, folder / "w.pt")
    with pytest.raises(UserError, match="expected tensors alone, got something else in 'notes'"):
        read_weights(folder / "w.pt")
