"""Intervals of the measures: what they leave out, how wide they are, how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from tests.analyses.test_measures import related
from zoo.analyses.measures import MEASURES, DegenerateError
from zoo.analyses.measures.canonical import GROUPS
from zoo.analyses.measures.intervals import jackknife_interval


def recomputed(name, x, y, groups):
    """The measure itself on the images that are left, for each group that is left out."""
    return np.array([MEASURES[name](x[groups != g], y[groups != g]) for g in np.unique(groups)])


def left_out(name, x, y):
    measure = MEASURES[name]
    return measure.leave_out(measure.prepare(x), measure.prepare(y))


def width(left):
    ends = jackknife_interval(left.mean(), left)
    return ends[1] - ends[0]


def test_the_interval_is_the_jackknifes_on_fishers_scale():
    left = np.random.default_rng(0).uniform(0.2, 0.6, size=7)
    z = np.arctanh(left)
    half = t.ppf(0.95, 6) * np.sqrt(6 * np.mean((z - z.mean()) ** 2))
    expected = np.tanh([np.arctanh(0.4) - half, np.arctanh(0.4) + half])
    assert jackknife_interval(0.4, left, level=0.9) == pytest.approx(expected)
    assert jackknife_interval(1.0, np.ones(5)) == pytest.approx([1, 1])
    assert np.isnan(jackknife_interval(0.4, [0.3, np.nan, 0.5])).all()


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


@pytest.mark.parametrize("name", ["rbf_cka", "rsa", "procrustes"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_held_hardly_changes_the_interval(name, seed):
    x, y = related(seed, n=120)
    expected = recomputed(name, x, y, np.arange(120))
    found = left_out(name, x, y)
    # Image by image the same ones move the value, and by the same amount.
    assert np.corrcoef(found, expected)[0, 1] > 0.97
    assert width(found) == pytest.approx(width(expected), rel=0.1)


@pytest.mark.parametrize("name", ["svcca", "pwcca"])
def test_canonical_correlations_leave_out_groups_of_images(name):
    x, y = related(1, n=120)  # of so few features, all directions are kept
    groups = np.random.default_rng(0).permutation(120) % GROUPS
    assert left_out(name, x, y) == pytest.approx(recomputed(name, x, y, groups))


@pytest.mark.parametrize("name", MEASURES)
def test_a_95_percent_interval_holds_the_truth_in_most_trials(name):
    def drawn(seed, n=100):
        random = np.random.default_rng(seed)
        common = random.normal(size=(n, 8)) * np.geomspace(1, 0.2, 8)
        mixing = np.random.default_rng(99).normal(size=(2, 8, 12))
        x, y = common @ mixing + 0.5 * random.normal(size=(2, n, 12))
        return np.maximum(x, 0), np.tanh(y)

    trials = [(MEASURES[name](*drawn(s)), *MEASURES[name].interval(*drawn(s))) for s in range(100)]
    values, low, high = np.array(trials).T
    truth = values.mean()  # at this number of images: some measures fall as it grows
    # 95 % of 100 trials, less three standard deviations.
    assert np.mean((low < truth) & (truth < high)) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 100)
    assert (low <= values).all()
    assert (values <= high).all()
    # And it is no wider than it must be: at most twice what the values really spread.
    assert np.mean(high - low) < 2 * 2 * 1.96 * values.std()
