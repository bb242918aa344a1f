import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from zoo.analyses.base import Accumulator, Grid
from zoo.analyses.measures.linear_cka import centred_gram, cka_from_hsic, pairwise_hsic
from zoo.capture import Tap, trace
from zoo.config import Settings
from zoo.data.sampling import even_batches
from zoo.engine import _prepare as prepare
from zoo.engine import compare_models, family_of, run_pass
from zoo.errors import UserError
from zoo.models.files import describe_module


@given(st.integers(4, 500), st.integers(4, 200))
def test_batches_cover_every_image_once_and_none_is_under_four(count, size):
    parts = even_batches(count, size)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    sizes = {stop - start for start, stop in parts}
    assert min(sizes) >= 4
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size or min(sizes) < 8


def test_a_few_images_more_do_not_make_the_estimate_worse():
    # Averaged over 40 draws of two noisy views of one factor; the truth is that of many images.
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(4, 6))

    def estimate(count):
        x = generator.normal(size=(count, 4))
        y = x @ mix + 2 * generator.normal(size=(count, 6))
        hsic = []
        for start, stop in even_batches(count, 128):
            grams = [centred_gram(torch.tensor(v[start:stop])).values for v in (x, y)]
            hsic.append(pairwise_hsic(torch.stack(grams), stop - start).numpy())
        return cka_from_hsic(np.mean(hsic, axis=0))[0, 1]

    truth = np.mean([estimate(2048) for _ in range(20)])
    error = {n: np.std([estimate(n) - truth for _ in range(60)]) for n in (128, 132)}
    assert error[132] < 1.5 * error[128]


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


class Headed(nn.Module):
    """A backbone, which other networks may have too, and a head."""

    def __init__(self, backbone, outputs):
        super().__init__()
        self.backbone, self.out = backbone, nn.Linear(10, outputs)

    def forward(self, x):
        return self.out(self.backbone(x))


def test_networks_that_share_a_backbone_are_measured_as_alone(make_model, digit_images):
    backbone = make_model("vit").module
    torch.manual_seed(0)
    models = [
        describe_module(Headed(backbone, 3), name="a", image_size=16),
        describe_module(Headed(backbone, 4), name="b", image_size=16, mean=[0.5] * 3),
    ]
    only = ["cka", "attention-distance", "localisation", "residuals"]
    settings = Settings(references=False, batch_size=20)

    def compare(models):
        return compare_models(models, digit_images[0], only=only, settings=settings).results

    together = compare(models)
    for model in models:
        for name, alone in compare([model]).items():
            for key, array in alone.arrays.items():
                values = together[name].arrays[key].values
                np.testing.assert_allclose(values, array.values, atol=1e-6, err_msg=key)


def test_one_network_that_gets_its_images_in_two_ways_is_two_models(make_model, digit_images):
    module = make_model("vit").module
    wide = {"mean": [0.5] * 3, "std": [0.1] * 3}
    models = [
        describe_module(module, name=name, image_size=16, **known)
        for name, known in {"plain": {}, "wide": wide}.items()
    ]
    watching = Watching("blocks.0")
    run_pass(study_of(models, digit_images[0]), [watching])
    assert [step[0] for step in watching.seen] == [0, 1, "end"] * 3
    for s, model in enumerate(models):
        alone = Watching("blocks.0")
        run_pass(study_of([model], digit_images[0]), [alone])
        assert watching.sums[s::2] == alone.sums


class Giving(nn.Module):
    """Gives its logits among other things."""

    def __init__(self, form):
        super().__init__()
        self.body, self.form = nn.Linear(768, 3), form

    def forward(self, x):
        return self.form(self.body(x.flatten(1)))


@pytest.mark.parametrize(
    "form",
    [
        lambda y: {"features": 1 - y, "logits": y},
        lambda y: {"loss": None, "out": y},
        lambda y: (y, 2 * y),
        lambda y: [{"logits": y}],
    ],
)
def test_logits_are_found_in_what_a_network_gives(digit_images, form):
    images, labels = digit_images
    names = ("a", "b", "c")
    torch.manual_seed(0)
    module = Giving(form)
    plain = Giving(lambda y: y)
    plain.load_state_dict(module.state_dict())
    models = [
        describe_module(m, name=name, image_size=16, class_names=list(names))
        for name, m in {"of": module, "plain": plain}.items()
    ]
    assert torch.equal(models[0](images), models[1](images))
    result = compare_models(models, images, labels % 3, class_names=names, only=["accuracy"])
    found = result.results["accuracy"].arrays
    assert np.array_equal(found["predicted/of"].values, found["predicted/plain"].values)


def test_a_network_that_gives_no_tensor_is_named(digit_images):
    model = describe_module(Giving(lambda y: {"logits": None}), name="m", image_size=16)
    with pytest.raises(UserError, match="its output holds no tensor, it is dict"):
        compare_models([model], digit_images[0], only=["cka"])


class Encoder(nn.Module):
    """A transformer over `stem`'s tokens; with `tokens_first`, images come second."""

    def __init__(self, stem, width, prefix=0, tokens_first=False):
        super().__init__()
        self.stem, self.tokens_first = stem, tokens_first
        self.before = nn.Parameter(torch.zeros(1, prefix, width))
        known = {"dim_feedforward": 8, "batch_first": not tokens_first}
        layers = [nn.TransformerEncoderLayer(width, 2, **known) for _ in range(2)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(width, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        x = torch.cat([self.before.expand(len(x), -1, -1), x], dim=1)
        if self.tokens_first:
            return self.head(self.layers(x.transpose(0, 1))[0])
        return self.head(self.layers(x)[:, 0])


class Cut(nn.Module):
    """Cuts an image into patches without a convolution."""

    def __init__(self, height, width):
        super().__init__()
        self.sides = height, width

    def forward(self, x):
        height, width = self.sides
        x = x.unfold(2, height, height).unfold(3, width, width)
        return x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


@pytest.mark.parametrize(
    ("stem", "width", "prefix", "grid"),
    [
        (nn.Conv2d(3, 4, 4, 4), 4, 0, Grid(0, 4, 4, 4.0)),
        (nn.Conv2d(3, 4, 4, 4), 4, 1, Grid(1, 4, 4, 4.0)),
        # As many tokens as a square has, though not all of them are patches.
        (nn.Conv2d(3, 4, 4, 4), 4, 9, Grid(9, 4, 4, 4.0)),
        (nn.Conv2d(3, 4, (2, 4), (2, 4)), 4, 0, None),
        (Cut(4, 4), 48, 1, Grid(1, 4, 4, 4.0)),
        (Cut(2, 4), 24, 0, None),
        (Cut(4, 4), 48, 13, None),
    ],
)
def test_where_tokens_lie_is_told_or_not_known(digit_images, stem, width, prefix, grid):
    model = describe_module(Encoder(stem, width, prefix), name="m", image_size=16)
    assert study_of([model], digit_images[0]).subjects[0].grid == grid


def test_attention_that_pools_after_the_blocks_leaves_a_cnn_a_cnn():
    module = timm.create_model("resnet50_clip", num_classes=3).eval()
    found = trace(module, torch.zeros(1, 3, 224, 224))
    assert found.attention == ("head",)
    assert family_of(found) == "cnn"


def test_blocks_with_tokens_on_the_first_axis_are_named_and_make_no_cnn(digit_images, caplog):
    module = Encoder(nn.Conv2d(3, 4, 4, 4), 4, tokens_first=True)
    model = describe_module(module, name="m", image_size=16)
    subject = study_of([model], digit_images[0]).subjects[0]
    assert subject.trace.turned == ("layers.0", "layers.1")
    assert (subject.family, subject.grid) == ("other", None)
    said = "m: 2 blocks are left out: their outputs do not have the images on the first axis"
    assert caplog.messages == [said]


def test_blocks_that_never_run_are_not_left_out_aloud(digit_images, caplog):
    module = Encoder(nn.Conv2d(3, 4, 4, 4), 4)
    module.spare = nn.Sequential(nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2))
    model = describe_module(module, name="m", image_size=16)
    assert study_of([model], digit_images[0]).subjects[0].family == "vit"
    assert caplog.messages == []


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
        ({"images": np.zeros((3, 16, 16, 3), np.uint8)}, "expected at least 4 images, got 3"),
        ({"labels": np.zeros(7, np.int64)}, "expected 8 labels, got 7"),
        ({"only": ["ckaa"]}, "unknown analysis 'ckaa'; did you mean 'cka'"),
    ],
)
def test_bad_input_is_named(make_model, change, message):
    models = [make_model("vit", name) for name in change.get("models", ["v"])]
    images = change.get("images", np.zeros((8, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=message):
        compare_models(models, images, change.get("labels"), only=change.get("only", ["cka"]))
