"""Published weights, through the caches of timm's hub and of torch in their own formats."""

import pickle
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.imported import ImportOptions, import_model
from zoo.models.preprocess import preprocess
from zoo.models.pretrained import load_timm, only_tensors, timm_class_names, timm_data, timm_spec
from zoo.models.start import start_from

TIMM, TORCHVISION = "test_vit.r160_in1k", "squeezenet1_1"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
    monkeypatch.setattr("huggingface_hub.utils.get_session", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    return tmp_path


@pytest.fixture
def published(caches):
    """A timm model's weights, as the hub's client keeps them."""
    module = timm.create_model(TIMM).eval()
    folder = caches / "hub" / f"models--timm--{TIMM}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    save_file(module.state_dict(), folder / "snapshots" / ("a" * 40) / "model.safetensors")
    return module


def torch_cache(folder: Path, name: str) -> Path:
    file = folder / "torch" / "hub" / "checkpoints" / Path(get_model_weights(name).DEFAULT.url).name
    file.parent.mkdir(parents=True)
    return file


@pytest.mark.parametrize("name", [TIMM, "test_vit"])
def test_timm_weights_come_from_the_local_cache(published, name):
    loaded = load_timm(name)
    x = torch.randn(1, 3, 160, 160)
    assert torch.equal(loaded.module(x), published(x))
    assert (loaded.uri, loaded.spec.arch) == (f"timm:{name}", "timm:test_vit")
    assert not loaded.module.training


def test_a_timm_model_is_preprocessed_as_timm_does(published):
    spec = load_timm(TIMM).spec
    config = timm.data.resolve_data_config({}, model=published)
    assert (spec.image_size, spec.crop_fraction) == (160, config["crop_pct"])
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), dtype=np.uint8)
    from PIL import Image

    expected = timm.data.create_transform(**config)(Image.fromarray(image))
    # Pillow rounds to whole values between its two passes, which zoo does not.
    assert (preprocess(image[None], spec)[0] - expected).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("tag", "source", "images"),
    [
        ("augreg_in21k_ft_in1k", "in21k", 14_197_122),
        ("augreg_in1k", "in1k", 1_281_167),
        ("lvd142m", "lvd142m", 142_109_386),
        ("untrained", None, None),
        (None, None, None),
    ],
)
def test_published_weights_say_what_they_were_trained_on_first(tag, source, images):
    module = timm.create_model("test_vit")
    module.pretrained_cfg = {**module.pretrained_cfg, "tag": tag}
    found = timm_data(module)
    assert (found.get("source"), found.get("subset_count")) == (source, images)


def test_a_models_images_are_known_by_its_published_weights_alone(published, tmp_path):
    assert (load_timm(TIMM).spec.source, load_timm(TIMM).spec.subset_count) == ("in1k", 1_281_167)
    weights = tmp_path / "own.safetensors"
    save_file(published.state_dict(), weights)
    imported = [
        import_model(f"timm:{TIMM}", "a", ImportOptions(weights=of)) for of in (None, weights)
    ]
    assert [one.spec.source for one in imported] == ["in1k", ""]


def test_training_starts_from_published_weights_at_another_size(published):
    module = build("timm:test_vit", classes=3, image_size=80)
    start_from(module, load_timm(TIMM))
    given, found = published.state_dict(), module.state_dict()
    assert {name for name in found if not torch.equal(found[name], given[name])} == {
        *("pos_embed", "head.weight", "head.bias"),
    }
    assert found["pos_embed"].shape[1] == 1 + 5 * 5
    assert module.eval()(torch.zeros(1, 3, 80, 80)).shape == (1, 3)


def test_imagenets_classes_bear_their_names(published):
    names = load_timm(TIMM).spec.class_names
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"
    torchvisions = get_model_weights(TORCHVISION).DEFAULT.meta["categories"]
    same = sum(b in a for a, b in zip(names, torchvisions, strict=True))
    assert same > 900  # two lists of the same classes in the same order


def test_classes_that_no_list_has_are_numbered():
    assert timm_class_names(timm.create_model("test_vit", num_classes=3)) == [
        f"class {i}" for i in range(3)
    ]


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 32, 64)])
def test_what_does_not_see_square_colour_images_is_refused(size):
    module = timm.create_model("test_vit", num_classes=3)
    module.pretrained_cfg = {**module.pretrained_cfg, "input_size": size}
    with pytest.raises(UserError, match="timm:odd: expected square colour images, got"):
        timm_spec("odd", module)


def test_weights_that_are_nowhere_are_one_line():
    with pytest.raises(UserError, match="not in the local cache and could not be downloaded"):
        load_timm(TIMM)
    with pytest.raises(UserError, match=r"squeezenet1_1-.*pth is not in torch's cache"):
        import_model(f"torchvision:{TORCHVISION}", "s", ImportOptions())


def test_a_hub_that_does_not_answer_is_told_without_a_second_try(monkeypatch):
    asked = []

    class Session:
        def head(self, address, timeout):
            asked.append((address, timeout))
            raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("tried the hub again"))
    with pytest.raises(UserError, match=r"could not be downloaded \(.*no route.*zoo import"):
        load_timm(TIMM)
    ((_, seconds),) = asked
    assert seconds <= 5


@pytest.mark.parametrize("name", ["test_vitt", "test_vit.nothing"])
def test_an_unknown_timm_model_gets_a_suggestion(name):
    with pytest.raises(UserError, match="did you mean 'test_vit"):
        load_timm(name)


def test_torchvision_weights_come_from_torchs_cache(caches):
    module = get_model(TORCHVISION).eval()
    torch.save(module.state_dict(), torch_cache(caches, TORCHVISION))
    imported = import_model(f"torchvision:{TORCHVISION}", "squeeze", ImportOptions())
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(imported.module(x), module(x))
    spec, entry = imported.spec, get_model_weights(TORCHVISION).DEFAULT
    assert spec.class_names == entry.meta["categories"]
    assert spec.origin == {
        "source": "torchvision:squeezenet1_1.IMAGENET1K_V1",
        "url": entry.url,
    }
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    expected = entry.transforms()(torch.from_numpy(image).permute(2, 0, 1))
    # torchvision rounds the resized image to whole values.
    assert (preprocess(image[None], spec)[0] - expected).abs().max() < 1 / 255 / 0.224


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_code_in_torchs_cache_does_not_run(caches, monkeypatch):
    monkeypatch.chdir(caches)
    torch.save({"features.0.weight": Evil()}, torch_cache(caches, TORCHVISION))
    with pytest.raises(UserError, match="could not be downloaded"):
        import_model(f"torchvision:{TORCHVISION}", "s", ImportOptions())
    assert not (caches / "ran").exists()


def test_only_tensors_holds_for_a_library_that_asks_for_more(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), "evil.pth")
    with only_tensors(), pytest.raises(pickle.UnpicklingError, match="Weights only"):
        torch.load("evil.pth", weights_only=False)
    assert not Path("ran").exists()
    # Outside of it, that call does run what is in the file: the test is not empty.
    torch.load("evil.pth", weights_only=False)
    assert Path("ran").exists()
