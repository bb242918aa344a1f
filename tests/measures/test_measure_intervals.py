"""Intervals of the measures: what they leave out, how wide they are, how often they hold."""

from __future__ import annotations

import numpy as np
import pytest

from tests.measures.test_measures import related
from zoo.measures.intervals import half_sample_interval, halves_of, jackknife_interval
from zoo.measures.layers import compare_layers
from zoo.measures.table import MEASURES, DegenerateError


def recomputed(name, x, y, groups):
    """The measure itself on the images that are left, for each group that is left out."""
    return np.array([MEASURES[name](x[groups != g], y[groups != g]) for g in np.unique(groups)])


def left_out(name, x, y):
    measure = MEASURES[name]
    return measure.leave_out(measure.prepare(x), measure.prepare(y))


def width(left):
    ends = jackknife_interval(left.mean(), left)
    return ends[1] - ends[0]


@pytest.mark.parametrize("name", MEASURES)
def test_a_layer_with_itself_has_an_interval_of_no_width(name):
    x, _ = related(0)
    assert MEASURES[name].interval(x, 3 * x) == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_layers_that_differ_in_one_image_have_a_narrow_interval(name):
    # On Fisher's scale the value without that image is infinite.
    x, _ = related(0, n=200)
    y = x.copy()
    y[7] += 0.3 * x.std(axis=0)
    low, high = MEASURES[name].interval(x, y)
    assert 0.9 < low < MEASURES[name](x, y) < high <= 1


def test_the_order_of_the_images_changes_no_interval_where_many_are_equally_far_apart():
    random = np.random.default_rng(0)
    x = random.integers(0, 2, size=(60, 6)) + np.linspace(0, 3, 6)
    y = np.where(random.random(x.shape) < 0.2, random.integers(0, 2, size=x.shape), x)
    order = random.permutation(60)
    expected = MEASURES["rsa"].interval(x, y)
    assert MEASURES["rsa"].interval(x[order], y[order]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [12, 13, 60])
def test_neighbours_without_an_image_are_those_of_the_other_images(n):
    x, y = related(0, n=n)
    for a, b in ((x, y), (y, x)):
        expected = recomputed("mutual_knn", a, b, np.arange(n))
        assert left_out("mutual_knn", a, b) == pytest.approx(expected)


def test_eleven_images_have_ten_neighbours_each_but_no_interval():
    x, y = related(0, n=11)
    assert MEASURES["mutual_knn"](x, y) == 1
    with pytest.raises(DegenerateError, match="more than 11 images to leave one out, got 11"):
        MEASURES["mutual_knn"].interval(x, y)
    found = compare_layers([MEASURES["mutual_knn"]], [x], [y])["mutual_knn"]
    assert found.values == 1
    assert np.isnan(found.interval).all()
    assert found.problems == [
        (0, 0, "no interval: needs more than 11 images to leave one out, got 11")
    ]


def test_where_one_image_is_all_that_varies_canonical_correlations_have_no_interval():
    x = np.random.default_rng(0).normal(size=(20, 3))
    lone = np.zeros((20, 2))
    lone[3] = 1, 2
    with pytest.raises(DegenerateError, match="is constant"):
        MEASURES["svcca"].interval(x, lone)


@pytest.mark.parametrize("name", ["rbf_cka", "rsa"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_held_hardly_changes_the_interval(name, seed):
    x, y = related(seed, n=120)
    expected = recomputed(name, x, y, np.arange(120))
    found = left_out(name, x, y)
    # Image by image the same ones move the value, and by the same amount.
    assert np.corrcoef(found, expected)[0, 1] > 0.97
    assert width(found) == pytest.approx(width(expected), rel=0.1)


@pytest.mark.parametrize("name", ["svcca", "pwcca", "procrustes"])
def test_half_of_the_images_have_the_value_of_the_measure_itself(name):
    x, y = drawn(1, 120, "classes")
    measure = MEASURES[name]
    expected = np.array([measure(x[half], y[half]) for half in halves_of(120)])
    # Procrustes is taken of the directions that hold 99 % of the whole.
    allowed = 0.005 if name == "procrustes" else 1e-3
    assert left_out(name, x, y) == pytest.approx(expected, abs=allowed)
    assert measure.interval(x, y) == pytest.approx(
        half_sample_interval(measure(x, y), expected), abs=allowed
    )


NOISE = {"near": 0.2, "middle": 0.5, "far": 2.0, "classes": 0.5}
# Of 120 images, as docs/analyses/similarity.md has them: coverage in 400 trials, and how wide the
# intervals are over what the values spread.
COVERAGE = {
    "rbf_cka": (0.95, 1.0), "svcca": (0.93, 1.05), "pwcca": (0.92, 1.0),
    "procrustes": (0.94, 1.12), "rsa": (0.94, 1.0), "mutual_knn": (0.99, 1.57),
}  # fmt: skip


def drawn(seed, n, setting="middle"):
    """Two layers of 12 features that share 8 directions, of images with or without classes."""
    random = np.random.default_rng((seed, n, 5))
    mixing = np.random.default_rng(99).normal(size=(2, 8, 12))
    common = random.normal(size=(n, 8)) * np.geomspace(1, 0.2, 8)
    if setting == "classes":
        centres = np.random.default_rng(3).normal(size=(10, 8))
        common = common * 0.4 + centres[random.integers(0, 10, n)]
    x, y = common @ mixing + NOISE[setting] * random.normal(size=(2, n, 12))
    return np.maximum(x + 0.3 * np.arange(12) / 12 + 0.3, 0) + 0.05 * x, np.tanh(y)


def coverage(name, trials, n=120, setting="middle"):
    """Return in how many trials the interval holds the truth, and its width over the spread."""
    measure = MEASURES[name]
    found = []
    for seed in range(trials):
        a, b = (measure.prepare(side) for side in drawn(seed, n, setting))
        value = measure.compare(a, b)
        found.append((value, *measure.interval_of(value, a, b)))
    values, low, high = np.array(found).T
    truth = values.mean()  # at this number of images: some measures fall as it grows
    held = (low <= truth) & (truth <= high)
    return held.mean(), np.mean(high - low) / (2 * 1.96 * values.std())


@pytest.mark.parametrize("name", MEASURES)
def test_a_95_percent_interval_holds_the_truth_as_often_as_the_docs_say(name):
    held, width = coverage(name, 100)
    expected, wide = COVERAGE[name]
    # Three standard deviations of a share of 100 trials; the width scatters by a tenth or so.
    assert abs(held - expected) <= 3 * np.sqrt(expected * (1 - expected) / 100) + 0.005
    assert width == pytest.approx(wide, rel=0.25)
