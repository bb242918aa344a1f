import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.analyses.base import Accumulator
from zoo.capture import Tap, trace
from zoo.config import Settings
from zoo.engine import _prepare as prepare
from zoo.engine import batches, compare_models, family_of, run_pass
from zoo.errors import UserError
from zoo.models.files import describe_module


@given(st.integers(4, 500), st.integers(4, 200))
def test_batches_cover_every_image_once_and_none_is_under_four(count, size):
    parts = list(batches(count, size))
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    assert min(stop - start for start, stop in parts) >= 4


class Watching(Accumulator):
    def __init__(self, layer):
        self.layer, self.seen, self.sums = layer, [], []

    def taps(self, subject):
        return [Tap(self.layer)]

    def observe(self, subject, tap, value):
        self.seen.append((subject, tap.layer, len(value)))
        self.sums.append(value.double().sum().item())

    def end_batch(self, batch):
        self.seen.append(("end", batch.start, batch.stop))


def study_of(models, images, **settings):
    options = Settings(references=False, batch_size=20, **settings)
    return prepare(models, images, None, (), (), options, torch.device("cpu"))


def test_one_pass_feeds_every_accumulator(make_model, digit_images):
    model = make_model("vit", "v")
    calls = []
    model.module.register_forward_hook(lambda *_: calls.append(1))
    first, second = Watching("blocks.0"), Watching("blocks.0")
    study = study_of([model], digit_images[0])
    calls.clear()
    run_pass(study, [first, second])
    assert len(calls) == 3
    assert first.seen == second.seen
    assert first.seen[:3] == [(0, "blocks.0", 20), ("end", 0, 20), (0, "blocks.0", 20)]
    assert first.sums == second.sums


def test_each_model_gets_the_images_its_own_way(make_model, digit_images):
    small = make_model("vit", "small")
    large = make_model("vit", "large", image_size=32, mean=[0.5] * 3, std=[0.5] * 3)
    study = study_of([small, large], digit_images[0])
    assert (study.subjects[0].grid.height, study.subjects[1].grid.height) == (4, 8)
    watching = Watching("head")
    run_pass(study, [watching])
    expected = large(digit_images[0][:20]).double().sum().item()
    assert watching.sums[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("arch", "family", "prefix"),
    [("vit", "vit", 1), ("vit-gap", "vit", 0), ("resnet18", "cnn", None), ("mixer", "mlp", 0)],
)
def test_a_models_family_and_grid_come_from_what_it_computes(
    make_model, digit_images, arch, family, prefix
):
    subject = study_of([make_model(arch, "m")], digit_images[0]).subjects[0]
    assert subject.family == family
    if prefix is None:
        assert subject.grid is None
    else:
        assert (subject.grid.prefix, subject.grid.width, subject.grid.patch) == (prefix, 4, 4.0)


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0", "maxvit_pico_rw_256"]
)
def test_attention_in_windows_or_over_fewer_keys_is_no_plain_vit(name):
    size = 256 if "256" in name else 224
    found = trace(timm.create_model(name).eval(), torch.zeros(1, 3, size, size))
    assert family_of(found) == "windowed"


@pytest.mark.parametrize("name", ["edgenext_xx_small", "visformer_tiny"])
def test_a_hybrid_that_attends_in_some_blocks_is_no_plain_vit(name):
    sizes = {"img_size": 32} if "visformer" in name else {}
    module = timm.create_model(name, **sizes).eval()
    assert family_of(trace(module, torch.zeros(1, 3, 32, 32))) == "windowed"


def test_every_layer_of_windowed_attention_can_be_compared(digit_images):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4}
    module = timm.create_model("swinv2_tiny_window8_256", num_classes=3, **sizes)
    for name, parameter in module.named_parameters():
        if name.endswith("weight") and "norm" in name:  # zero at first: constant
            torch.nn.init.ones_(parameter)
    model = describe_module(module.eval(), name="m", image_size=32)
    settings = Settings(layers="all", references=False, batch_size=20)
    result = compare_models([model], digit_images[0], only=["cka"], settings=settings).results[
        "cka"
    ]
    assert any(name.endswith("attn.proj") for name in result.labels["layer[m]"])
    assert not any("cpb_mlp" in name for name in result.labels["layer[m]"])
    assert result.notes == ()
    assert np.diagonal(result.arrays["cka/m__m"].values) == pytest.approx(1)


def test_shown_images_are_of_different_classes(make_model, digit_images):
    images, labels = digit_images
    found = compare_models([make_model("vit", "v")], images, labels, only=["accuracy"])
    shown = labels[list(found.study.shown)]
    assert len(set(shown)) == len(shown) == 6


def test_the_untrained_references_leave_the_global_generator_alone(make_model, digit_images):
    model = make_model("vit", "v")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = compare_models([model], digit_images[0], only=["cka"])
    assert torch.equal(torch.rand(3), expected)
    assert [s.role for s in found.study.subjects] == ["model", "untrained"]


def test_the_models_come_back_as_they_were(make_model, digit_images):
    model = make_model("resnet18", "r")
    model.module.train()
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    compare_models([model], digit_images[0], only=["cka"])
    assert model.module.training
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    assert not any(m._forward_hooks for m in model.module.modules())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "different names, got none"),
        ({"models": ["v", "v"]}, "different names, got v, v"),
        ({"images": np.zeros((8, 16, 16), np.uint8)}, "expected \\(n, height, width, 3\\) uint8"),
        ({"images": np.zeros((8, 16, 16, 3), np.float32)}, "got \\(8, 16, 16, 3\\) float32"),
        ({"images": np.zeros((3, 16, 16, 3), np.uint8)}, "at least 4 images"),
        ({"labels": np.zeros(7, np.int64)}, "expected 8 labels, got 7"),
        ({"only": ["ckaa"]}, "unknown analysis 'ckaa'; did you mean 'cka'"),
    ],
)
def test_bad_input_is_named(make_model, change, message):
    models = [make_model("vit", name) for name in change.get("models", ["v"])]
    images = change.get("images", np.zeros((8, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=message):
        compare_models(models, images, change.get("labels"), only=change.get("only", ["cka"]))
