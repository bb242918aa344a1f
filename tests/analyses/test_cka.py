"""A comparison's CKA against the formula over minibatches, with its baselines and its notes."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.labelled import ends, values
from tests.measures.test_deconfounded import deconfounded_cka
from tests.measures.test_linear_cka import reference_cka
from zoo.analyses import cka
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.errors import UserError
from zoo.measures import linear_cka
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess


class Two(nn.Module):
    """A network whose two layers' outputs are set by hand."""

    def __init__(self, weight, offset=0.0, **layers):
        super().__init__()
        self.a, self.b = nn.Linear(192, 20), nn.Linear(20, 3)
        with torch.no_grad():
            self.a.weight.mul_(weight)
            self.a.bias.fill_(offset)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.b(self.a(x.flatten(1)))


def activations(model, images, layer):
    with torch.inference_mode():
        x = preprocess(images, model.spec)
        return getattr(model.module, layer)(
            x.flatten(1) if layer == "a" else model.module.a(x.flatten(1))
        ).numpy()


def compared(models, images, **options):
    options = {"batch_size": 16, "references": False} | options
    findings = compare_models(models, images, only=["cka"], settings=Settings(**options))
    return findings.results["cka"]


IMAGES = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)


def two(name, **kwargs):
    torch.manual_seed(len(name))
    return describe_module(Two(kwargs.pop("weight", 1.0), **kwargs), name=name, image_size=8)


def test_the_engines_cka_is_the_minibatch_formula_for_all_pairs_of_layers():
    a, b = two("x"), two("yy")
    result = compared([a, b], IMAGES)
    # Four batches of at most 16 images, and of nearly the same size.
    parts = [slice(0, 12), slice(12, 25), slice(25, 38), slice(38, 50)]
    for i, first in enumerate("ab"):
        for j, second in enumerate("ab"):
            x, y = activations(a, IMAGES, first), activations(b, IMAGES, second)
            expected = reference_cka([x[p] for p in parts], [y[p] for p in parts])
            assert values(result, "cka", "x", "yy")[i, j] == pytest.approx(expected, abs=1e-6)
    assert np.diagonal(values(result, "cka", "x", "x")) == pytest.approx([1, 1])


class OnDarkImages(Two):
    def forward(self, x):
        hidden = self.a(x.flatten(1))
        if x.mean() <= 0:  # so it is when the network is looked at, too
            self.c(hidden)
        return self.b(hidden)


def test_a_layer_that_did_not_run_on_every_batch_has_no_cka():
    torch.manual_seed(0)
    network = OnDarkImages(1.0, c=nn.Linear(20, 5))
    some = describe_module(network, name="some", image_size=8, mean=[0.5] * 3, std=[0.25] * 3)
    images = np.concatenate([IMAGES[:16] // 4, 255 - IMAGES[16:32] // 4])
    result = compared([some, two("x")], images)
    cka = values(result, "cka", "some", "x")
    assert np.isfinite(cka).all(axis=1).tolist() == [True, False, True]  # a, c, b
    assert "some: c did not run on every batch" in result.notes


class InInferenceMode(nn.Sequential):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize(("kind", "products"), [(nn.Sequential, 3), (InInferenceMode, 5)])
def test_a_layer_that_hands_on_its_input_costs_nothing_unless_changed_in_place(
    kind, products, monkeypatch
):
    torch.manual_seed(0)
    parts = [nn.Flatten(), nn.Linear(192, 20), nn.Dropout(), nn.ReLU(inplace=True), nn.Identity()]
    model = describe_module(kind(*parts).eval(), name="m", image_size=8)
    counted = []

    def count(x, gram=cka.centred_gram):
        counted.append(1)
        return gram(x)

    for module in (cka, linear_cka):
        monkeypatch.setattr(module, "centred_gram", count)
    result = compared([model], IMAGES, batch_size=50, layers="[1234]")
    with torch.no_grad():
        linear = parts[1](preprocess(IMAGES, model.spec).flatten(1))
        outputs = [linear, linear, linear.relu(), linear.relu()]
    expected = [[reference_cka([x.numpy()], [y.numpy()]) for x in outputs] for y in outputs]
    assert np.allclose(values(result, "cka", "m", "m"), expected, atol=1e-6)
    assert len(counted) == products  # one of them is that of the pixels


def test_swapping_the_models_transposes_the_values():
    a, b = two("x"), two("yy")
    forward = values(compared([a, b], IMAGES), "cka", "x", "yy")
    backward = values(compared([b, a], IMAGES), "cka", "yy", "x")
    assert np.allclose(forward, backward.T, atol=1e-12)


def test_a_constant_layer_is_named_and_its_cells_are_empty():
    a, b = two("x"), two("yy", weight=0.0, offset=3.0)
    result = compared([a, b], IMAGES)
    assert np.isnan(values(result, "cka", "x", "yy")).all()
    assert "yy: a is constant" in result.notes
    assert "yy: b is constant" in result.notes
    assert all(np.isfinite(metric.value) for metric in result.metrics)


def test_a_layer_that_is_not_finite_is_named_and_the_others_are_kept():
    a, b = two("x"), two("yy")
    with torch.no_grad():
        b.module.b.bias[0] = float("nan")
    result = compared([a, b], IMAGES)
    assert result.notes == ("yy: b is not finite",)
    assert np.isfinite(values(result, "cka", "x", "yy")[:, 0]).all()


def test_intervals_hold_the_value_and_need_eight_images_or_two_batches():
    a, b = two("x"), two("yy")
    result = compared([a, b], IMAGES, batch_size=5)
    value, (low, high) = values(result, "cka", "x", "yy"), ends(result, "cka", "x", "yy")
    assert (low <= value + 0.02).all()
    assert (value - 0.02 <= high).all()
    assert (high - low > 1e-4).all()
    assert "cka_ci" in compared([a, b], IMAGES[:8], batch_size=50).data
    single = compared([a, b], IMAGES[:7], batch_size=50)
    assert "cka_ci" not in single.data
    assert any("fewer than 8" in note for note in single.notes)


def test_deconfounded_cka_takes_away_what_the_images_themselves_explain():
    a, b = two("x"), two("yy")
    x, y = activations(a, IMAGES, "b"), activations(b, IMAGES, "b")
    expected = deconfounded_cka(x, y, IMAGES)
    result = compared([a, b], IMAGES, batch_size=50)
    assert values(result, "cka_deconfounded", "x", "yy")[-1, -1] == pytest.approx(
        expected, abs=1e-5
    )
    assert result.metric("mean_deconfounded", "x", "yy") < result.metric(
        "mean_all_pairs", "x", "yy"
    )


def test_a_batch_in_which_a_layer_is_constant_does_not_lose_the_layer():
    images = np.concatenate([IMAGES, np.zeros_like(IMAGES)])
    found = compared([two("x"), two("yy")], images, batch_size=len(IMAGES))
    assert np.isfinite(values(found, "cka", "x", "yy")).all()
    assert not [note for note in found.notes if "constant" in note]
    blank = compared([two("x"), two("yy")], np.zeros_like(images), batch_size=len(IMAGES))
    assert [note for note in blank.notes if "is constant" in note]


def test_permuted_images_and_untrained_networks_are_the_floor(make_model, digit_images):
    models = [make_model("vit", "v"), make_model("vit", "w", seed=1)]
    sibling = make_model("vit", "v", seed=2)
    findings = compare_models(
        models,
        digit_images[0],
        only=["cka"],
        siblings=[(0, sibling)],
        settings=Settings(batch_size=20),
    )
    result = findings.results["cka"]
    assert abs(result.metric("best_match_permuted", "v", "w")) < 0.3
    assert result.metric("best_match_p", "v", "w") == pytest.approx(1 / 201)
    best = values(result, "cka", "v", "w").max(axis=1)
    matched = result.data["cka_best_match"].sel(matched="w").values
    assert matched[np.isfinite(matched)] == pytest.approx(best)
    assert 0 < result.metric("mean_all_pairs", "v untrained", "w") <= 1
    assert 0 < result.metric("mean_same_layer", "v", "v seed 2") <= 1
    names = ("v", "w", "v untrained", "w untrained", "v seed 2", "v seed 2 untrained")
    assert result.networks == names
    assert [(n.model, n.state, n.seed, n.compared) for n in findings.networks] == [
        ("v", "trained", 0, True),
        ("w", "trained", 1, True),
        ("v", "initial", 0, False),
        ("w", "initial", 1, False),
        ("v", "trained", 2, False),
        ("v", "initial", 2, False),
    ]


def test_the_floor_does_not_hang_on_the_order_of_the_images():
    # Classes in turn, as in a balanced test split: a neighbour would always be of the next class.
    generator = np.random.default_rng(3)
    bright = np.arange(160) % 2 * 150
    noise = generator.integers(0, 100, (160, 8, 8, 3))
    images = (bright[:, None, None, None] + noise).astype(np.uint8)
    result = compared([two("x"), two("yy")], images)
    assert result.metric("mean_all_pairs", "x", "yy") > 0.5
    assert abs(result.metric("best_match_permuted", "x", "yy")) < 0.2


def test_an_unknown_pooling_is_named():
    with pytest.raises(UserError, match="pool: expected one of flatten, gap, cls, tokens"):
        Settings(pool="max")
