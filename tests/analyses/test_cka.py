"""CKA against the definition, written out in loops, and its known failures in other tools."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.analyses import cka
from zoo.config import Settings
from zoo.engine import compare_models
from zoo.errors import UserError
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess


def hsic1(K, L):
    """Song et al. 2012, Eq. 5: the mean over all ordered quadruples of distinct samples."""
    n = len(K)
    total = 0.0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def reference_cka(batches_x, batches_y):
    """Minibatch CKA by the trace formula in float64."""

    def term(K, L):
        n = len(K)
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        one = np.ones(n)
        return (
            np.trace(K @ L)
            + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ K @ L @ one)
        ) / (n * (n - 3))

    sums = np.zeros(3)
    for x32, y32 in zip(batches_x, batches_y, strict=True):
        x, y = x32.astype(np.float64), y32.astype(np.float64)
        K, L = x @ x.T, y @ y.T
        sums += [term(K, L), term(K, K), term(L, L)]
    return sums[0] / np.sqrt(sums[1] * sums[2])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_unbiased_estimator_is_the_mean_over_quadruples():
    x, y = random(7, 3), random(7, 4, seed=1)
    grams = torch.stack([cka.centred_gram(torch.tensor(v)).values for v in (x, y)])
    hsic = cka.pairwise_hsic(grams, 7)
    K, L = x @ x.T, y @ y.T
    for i, j, expected in ((0, 1, hsic1(K, L)), (0, 0, hsic1(K, K)), (1, 1, hsic1(L, L))):
        assert hsic[i, j].item() == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-50, 50))
def test_cka_ignores_rotation_scale_shift_and_order_and_is_symmetric(seed, scale, shift):
    random_state = np.random.default_rng(seed)
    x, y = random_state.normal(size=(12, 5)), random_state.normal(size=(12, 6))
    value = cka.linear_cka(x, y)
    rotation, _ = np.linalg.qr(random_state.normal(size=(5, 5)))
    order = random_state.permutation(12)
    assert cka.linear_cka(x @ rotation * scale + shift, y) == pytest.approx(value, abs=1e-9)
    assert cka.linear_cka(x[order], y[order]) == pytest.approx(value, abs=1e-9)
    assert cka.linear_cka(y, x) == pytest.approx(value, abs=1e-12)
    assert cka.linear_cka(x, x) == pytest.approx(1)
    # Absolute epsilons elsewhere give 0.947 for this.
    assert cka.linear_cka(x * 1e-3, x) == pytest.approx(1)


def test_unrelated_representations_have_none_on_average():
    values = [
        cka.linear_cka(random(30, 4, seed=s), random(30, 4, seed=s + 500)) for s in range(200)
    ]
    assert abs(np.mean(values)) < 0.02


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((6, 2)), "x is constant"),
        (np.full((6, 2), np.nan), "x is not finite"),
        (random(5, 2), "expected the same images, got 5 and 6"),
    ],
)
def test_degenerate_input_is_named(x, message):
    with pytest.raises(ValueError, match=message):
        cka.linear_cka(x, random(6, 2))


def test_too_few_images_are_named():
    with pytest.raises(UserError, match="at least 4 images in a batch, got 3"):
        cka.linear_cka(random(3, 2), random(3, 2))


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
            assert result.arrays["cka/x__yy"].values[i, j] == pytest.approx(expected, abs=1e-6)
    assert np.diagonal(result.arrays["cka/x__x"].values) == pytest.approx([1, 1])


@pytest.mark.parametrize("ratio", [0, 27, 91])
def test_a_mean_far_above_the_deviation_costs_no_accuracy(ratio):
    # Published tools return -0.5, 1.0, -inf or NaN here: float32 cancels.
    x = (random(64, 300) + ratio).astype(np.float32)
    y = (x[:, :200] * 0.5 + random(64, 200, seed=1) + ratio).astype(np.float32)
    grams = torch.stack([cka.centred_gram(torch.tensor(v)).values for v in (x, y)])
    value = cka.cka_from_hsic(cka.pairwise_hsic(grams, 64).numpy())[0, 1]
    assert value == pytest.approx(reference_cka([x], [y]), abs=1e-6)


class InInferenceMode(nn.Sequential):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize(("kind", "products"), [(nn.Sequential, 2), (InInferenceMode, 4)])
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

    monkeypatch.setattr(cka, "centred_gram", count)
    result = compared([model], IMAGES, batch_size=50, layers="[1234]")
    with torch.no_grad():
        linear = parts[1](preprocess(IMAGES, model.spec).flatten(1))
        outputs = [linear, linear, linear.relu(), linear.relu()]
    expected = [[reference_cka([x.numpy()], [y.numpy()]) for x in outputs] for y in outputs]
    assert np.allclose(result.arrays["cka/m__m"].values, expected, atol=1e-6)
    assert len(counted) == products


def test_swapping_the_models_transposes_the_values():
    a, b = two("x"), two("yy")
    forward = compared([a, b], IMAGES).arrays["cka/x__yy"].values
    backward = compared([b, a], IMAGES).arrays["cka/yy__x"].values
    assert np.allclose(forward, backward.T, atol=1e-12)


def test_a_constant_layer_is_named_and_its_cells_are_empty():
    a, b = two("x"), two("yy", weight=0.0, offset=3.0)
    result = compared([a, b], IMAGES)
    assert np.isnan(result.arrays["cka/x__yy"].values).all()
    assert "yy: layer a is constant" in result.notes
    assert "yy: layer b is constant" in result.notes
    assert all(np.isfinite(value) for value in result.metrics.values())


def test_a_layer_that_is_not_finite_is_named_and_the_others_are_kept():
    a, b = two("x"), two("yy")
    with torch.no_grad():
        b.module.b.bias[0] = float("nan")
    result = compared([a, b], IMAGES)
    assert result.notes == ("yy: layer b is not finite",)
    assert np.isfinite(result.arrays["cka/x__yy"].values[:, 0]).all()


def test_intervals_hold_the_value_and_need_two_batches():
    a, b = two("x"), two("yy")
    result = compared([a, b], IMAGES, batch_size=5)
    low, value, high = (result.arrays[f"{k}/x__yy"].values for k in ("low", "cka", "high"))
    assert (low <= value + 0.02).all()
    assert (value - 0.02 <= high).all()
    assert (high - low > 1e-4).all()
    single = compared([a, b], IMAGES, batch_size=50)
    assert "low/x__yy" not in single.arrays
    assert any("there is only one" in note for note in single.notes)


def test_the_interval_is_the_jackknifes_on_fishers_scale():
    hsic = np.abs(random(6, 3, 3))
    hsic = hsic + hsic.transpose(0, 2, 1) + 5 * np.eye(3)
    low, high = cka.cka_interval(hsic)
    for i, j in ((0, 1), (1, 2)):

        def value(kept, i=i, j=j):
            mean = hsic[kept].mean(axis=0)
            return mean[i, j] / np.sqrt(mean[i, i] * mean[j, j])

        left_out = [value([k for k in range(6) if k != b]) for b in range(6)]
        centre = value(range(6))
        error = np.sqrt(5 * np.var(left_out)) / (1 - centre**2)
        half = scipy.stats.t.ppf(0.975, 5) * error
        assert low[i, j] == pytest.approx(np.tanh(np.arctanh(centre) - half))
        assert high[i, j] == pytest.approx(np.tanh(np.arctanh(centre) + half))
    assert low[1, 1] == pytest.approx(1)
    assert np.isnan(cka.cka_interval(np.where(np.eye(3) > 2, hsic, -1))).all()


@pytest.mark.parametrize("count", [3, 6])
def test_a_95_percent_interval_holds_the_truth_in_95_percent_of_trials(count):
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(4, 6))

    def batch_hsic(n):
        x = generator.normal(size=(n, 4))
        y = x @ mix + generator.normal(size=(n, 6))
        grams = torch.stack([cka.centred_gram(torch.tensor(v)).values for v in (x, y)])
        return cka.pairwise_hsic(grams, n).numpy()

    truth = cka.cka_from_hsic(np.mean([batch_hsic(400) for _ in range(50)], axis=0))[0, 1]
    held = []
    for _ in range(300):
        ends = cka.cka_interval(np.stack([batch_hsic(40) for _ in range(count)]))
        held.append(ends[0, 0, 1] <= truth <= ends[1, 0, 1])
    # Three standard errors of 300 trials below 95 %.
    assert np.mean(held) > 0.91


def test_a_batch_in_which_a_layer_is_constant_does_not_lose_the_layer():
    images = np.concatenate([IMAGES, np.zeros_like(IMAGES)])
    found = compared([two("x"), two("yy")], images, batch_size=len(IMAGES))
    assert np.isfinite(found.arrays["cka/x__yy"].values).all()
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
    metrics = findings.results["cka"].metrics
    assert abs(metrics["cka/v__w/permuted_images"]) < 0.2
    assert 0 < metrics["cka/v__w/untrained_mean"] <= 1
    assert 0 < metrics["cka/v/other_seed_same_layer"] <= 1
    assert set(findings.results["cka"].labels) >= {"layer[v]", "layer[w]"}
    assert findings.results["cka"].models == ("v", "w")


def test_the_floor_does_not_hang_on_the_order_of_the_images():
    # Classes in turn, as in a balanced test split: a neighbour would always be of the next class.
    generator = np.random.default_rng(3)
    bright = np.arange(160) % 2 * 150
    noise = generator.integers(0, 100, (160, 8, 8, 3))
    images = (bright[:, None, None, None] + noise).astype(np.uint8)
    result = compared([two("x"), two("yy")], images)
    assert result.metrics["cka/x__yy/mean"] > 0.5
    assert abs(result.metrics["cka/x__yy/permuted_images"]) < 0.2


def test_an_unknown_pooling_is_named():
    with pytest.raises(UserError, match="pool: expected one of flatten, gap, cls, tokens"):
        Settings(pool="max")
