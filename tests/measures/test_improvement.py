"""The probability that a random seed is the better one, against other formulas of it."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from zoo.measures.improvement import probability_of_improvement
from zoo.measures.intervals import wilson_interval


def test_it_is_the_share_of_pairs_as_mann_whitney_counts_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 4), rng.integers(0, 6, 7)
        expected = mannwhitneyu(a, b).statistic / (len(a) * len(b))
        assert probability_of_improvement(a, b)[0] == pytest.approx(expected)


def test_its_interval_solves_newcombes_equation():
    # The variance as the R package auRoc writes it.
    a, b, z = [0.5, 0.7, 0.8, 0.9], [0.4, 0.6, 0.65], norm.ppf(0.975)
    value, low, high = probability_of_improvement(a, b)
    m = (len(a) + len(b)) / 2
    for p in (low, high):
        variance = p * (1 - p) / 12 * ((2 * m - 1) - (3 * m - 3) / ((2 - p) * (1 + p)))
        assert abs(value - p) == pytest.approx(z * np.sqrt(variance), rel=1e-6)


def test_one_seed_each_has_wilsons_interval_and_the_turned_pair_is_mirrored():
    assert probability_of_improvement([2], [1]) == pytest.approx((1, *wilson_interval(1, 1)))
    value, low, high = probability_of_improvement([1, 4, 5], [2, 3])
    turned = probability_of_improvement([2, 3], [1, 4, 5])
    assert turned == pytest.approx((1 - value, 1 - high, 1 - low))


def test_seeds_that_never_overlap_have_an_interval_that_shrinks_with_their_number():
    lows = [probability_of_improvement(range(n, 2 * n), range(n))[1] for n in (2, 5, 20)]
    assert lows == sorted(lows)
    assert 0.3 < lows[0] < 0.5 < lows[1] < 0.7 < lows[2] < 1


def test_values_of_both_are_needed():
    with pytest.raises(ValueError, match="expected values of both, got 0 and 1"):
        probability_of_improvement([], [1.0])


@pytest.mark.parametrize(("seeds", "shift"), [(5, 0.0), (5, 0.8), (3, 0.5), (10, 1.2)])
def test_its_interval_holds_the_truth_in_95_percent(seeds, shift):
    rng, truth, trials = np.random.default_rng(1), norm.cdf(shift / np.sqrt(2)), 1000
    held = 0
    for _ in range(trials):
        a, b = rng.normal(shift, 1, seeds), rng.normal(0, 1, seeds)
        _, low, high = probability_of_improvement(a, b)
        held += low <= truth <= high
    assert held / trials >= 0.93
