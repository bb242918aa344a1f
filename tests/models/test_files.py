import dataclasses
import json
import os
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.errors import UserError
from zoo.models.files import describe_module, load_model, save_model
from zoo.models.preprocess import model_input, preprocess
from zoo.models.spec import ModelSpec


@pytest.fixture
def saved(tmp_path, make_model):
    model = make_model("vit", "vit-small")
    digest = save_model(tmp_path, model.module, model.spec)
    return tmp_path, model, digest


def test_a_model_comes_back_bit_for_bit(saved, digit_images):
    folder, model, digest = saved
    loaded = load_model(folder)
    assert torch.equal(loaded(digit_images[0]), model(digit_images[0]))
    assert (loaded.digest, loaded.spec, loaded.name) == (digest, model.spec, "vit-small")
    assert not loaded.module.training
    assert all(p.requires_grad for p in loaded.module.parameters())


@pytest.mark.parametrize("arch", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_models_with_buffers_come_back_too(tmp_path, make_model, arch):
    size = 16 if arch == "resnet18" else 224
    model = make_model(arch, image_size=size)
    save_model(tmp_path, model.module, model.spec)
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    assert torch.equal(load_model(tmp_path)(image), model(image))


def test_the_digest_is_over_weights_and_spec(saved, tmp_path):
    folder, model, digest = saved
    assert save_model(folder, model.module, model.spec) == digest
    other = dataclasses.replace(model.spec, seed=5)
    assert save_model(folder, model.module, other) != digest


def damage_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


def huge_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + path.read_bytes()[8:])


def long_header(folder):
    path = folder / "model.safetensors"
    header = b"{" + b" " * (17 << 20) + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def header_beyond_the_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes((1 << 20).to_bytes(8, "little") + b"{}")


def extra_key(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"extra": torch.zeros(2)}, folder / "model.safetensors")


def wrong_shape(folder):
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors")


def edit_spec(**changes):
    def edit(folder):
        path = folder / "spec.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, r"model\.safetensors is damaged: .*; fetch or train it again"),
        (huge_header, r"model\.safetensors is damaged: .*header"),
        (long_header, r"model\.safetensors does not fit spec\.json"),
        (header_beyond_the_file, r"model\.safetensors is damaged: .*header"),
        (extra_key, "'extra': expected nothing, got"),
        (wrong_shape, r"'head.bias': expected 10 float32, got 3 float32 \(1 differ\); take both"),
        (edit_spec(arch="os.system"), "unknown arch 'os.system'"),
        (
            edit_spec(arch="vitt"),
            "unknown arch 'vitt'; did you mean 'vit'.*valid: vit, vit-gap, .*, mixer, or any",
        ),
        (edit_spec(module="evil"), "unknown key in .*: 'module'"),
        (
            edit_spec(std=[0, 1, 1]),
            r"/spec\.json does not describe a model: spec of 'vit-small': expected 3 means and",
        ),
        (edit_spec(image_size="big"), "image_size: expected int"),
        (
            lambda folder: (folder / "spec.json").write_text("{"),
            r"spec\.json is damaged: .*; fetch it again",
        ),
        (lambda folder: (folder / "spec.json").unlink(), r"spec\.json is missing"),
    ],
)
def test_a_damaged_or_doctored_model_is_refused_by_name(saved, damage, message):
    damage(saved[0])
    with pytest.raises(UserError, match=message):
        load_model(saved[0])


@pytest.mark.parametrize(
    "arch",
    [
        *("os:system", "os.system", "builtins:eval", "subprocess:Popen", "posix:system"),
        *("torchvision:__class__", "torchvision:os", "torchvision:get_model", "timm:os"),
        *("hf-hub:a/b", "local-dir:/tmp", "timm:hf-hub:a/b", "timm:local-dir:/tmp"),
        *("__import__", "vit:system", "resnet18.../../etc", "nn.Linear", "a" * 10_000),
    ],
)
def test_a_spec_that_names_other_code_is_refused(saved, monkeypatch, arch):
    for name in ("system", "popen"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("called"))
    edit_spec(arch=arch, kwargs={})(saved[0])
    with pytest.raises(UserError):
        load_model(saved[0])


def deep(depth):
    return {"embed_dim": 16, "num_heads": 2, "depth": depth}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image_size": 10**9},
            r"spec of 'vit-small': image_size: expected 1 to 4096 pixels, got 1000000000",
        ),
        ({"crop_fraction": 1e-9}, "asks for images of 1.6e"),
        ({"kwargs": deep(10**6)}, "vit: kwargs.depth: expected -100000 to 100000, got 1000000"),
        (
            {"kwargs": deep(10**300)},
            r"vit: kwargs.depth: expected -100000 to 100000, got 1000.*\.\.\..*000",
        ),
        ({"kwargs": deep(50_000)}, "vit: expected a network of at most 20,000 parts"),
        ({"kwargs": deep(2) | {"embed_dim": 100_000}}, "does not fit spec"),
        (
            {"kwargs": {"a": {"b": [[-1e9]]}}},
            "kwargs.a.b.0..0.: expected -100000 to 100000, got -1000000000.0",
        ),
        ({"kwargs": {"a": [0] * 2000}}, "kwargs.a.1000.: expected at most 1000 numbers"),
        ({"arch": "resnet18", "kwargs": {"layers": [90_000] * 4}}, "kwargs|cannot build|parts"),
    ],
)
def test_a_spec_that_asks_for_too_much_is_refused_before_memory_is_taken(saved, changes, message):
    edit_spec(**changes)(saved[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=message):
        load_model(saved[0])
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kilobytes < 200_000


@pytest.mark.parametrize("text", ['{"seed": ' + "9" * 5000 + "}", "[" * 100_000])
def test_json_that_python_refuses_is_refused_by_name(saved, text):
    (saved[0] / "spec.json").write_text(text)
    with pytest.raises(UserError, match=r"spec\.json is damaged"):
        load_model(saved[0])


def test_a_name_that_is_no_text_is_refused(saved):
    """JSON can spell half a surrogate pair; matplotlib and UTF-8 files cannot hold it."""
    edit_spec(class_names=["a\ud800", "b", "c"])(saved[0])
    with pytest.raises(UserError, match=r"class_names\[0\]: expected text in Unicode, got half"):
        load_model(saved[0])


def test_a_models_own_folder_may_hold_links(saved, tmp_path):
    # DVC links what it caches.
    (tmp_path / "linked").mkdir()
    for name in ("model.safetensors", "spec.json"):
        (tmp_path / "linked" / name).symlink_to(saved[0] / name)
    assert load_model(tmp_path / "linked").digest == saved[2]


def test_pixels_are_scaled_normalised_and_resized():
    spec = ModelSpec("m", "vit", 8, ["a"], mean=[0.5, 0.25, 0.0], std=[0.5, 1.0, 2.0])
    images = np.full((2, 8, 8, 3), 255, np.uint8)
    x = preprocess(images, spec)
    assert x.shape == (2, 3, 8, 8)
    assert x[0, :, 0, 0].tolist() == [1.0, 0.75, 0.5]
    assert preprocess(np.zeros((2, 20, 30, 3), np.uint8), spec).shape == (2, 3, 8, 8)
    cropped = dataclasses.replace(spec, crop_fraction=0.5)
    framed = np.zeros((1, 16, 16, 3), np.uint8)
    framed[:, 4:12, 4:12] = 255
    assert preprocess(framed, cropped)[0, 0].min() == 1.0
    wide = np.zeros((1, 8, 24, 3), np.uint8)
    wide[:, :, 8:16] = 255
    for images in (wide, wide.swapaxes(1, 2)):
        assert preprocess(images, spec)[0, 0].min() == 1.0


def test_the_mode_is_restored(digit_images):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))
    model = describe_module(module, name="mine", image_size=16)
    module.train()
    module[1].eval()  # frozen inside a network that trains
    model(digit_images[0])
    assert module.training
    assert not module[1].training


def test_the_input_follows_the_networks_precision_and_device(make_model, digit_images):
    model = make_model("vit", "v")
    expected = model(digit_images[0])
    model.module.bfloat16()
    x = model_input(digit_images[0], model.spec, model.module)
    assert x.dtype == torch.bfloat16
    found = model(digit_images[0])
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.05)
    assert model_input(digit_images[0], model.spec, model.module.to("meta")).is_meta


def test_a_network_without_parameters_gets_float32():
    spec = describe_module(torch.nn.Flatten(), name="m", image_size=4).spec
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert model_input(images, spec, torch.nn.Flatten()).dtype == torch.float32
    norm = torch.nn.BatchNorm2d(3, affine=False).double()
    assert model_input(images, spec, norm).dtype == torch.float64
