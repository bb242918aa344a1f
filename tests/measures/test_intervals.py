"""Intervals against SciPy's and against their formulas, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_1samp

from zoo.measures.intervals import (
    SHARE,
    AfterSelection,
    half_sample_interval,
    halves_of,
    in_range,
    independent_difference,
    jackknife_interval,
    mean_interval,
    paired_difference,
    selection_interval,
    wilson_interval,
)


def test_the_interval_is_the_jackknifes_on_fishers_scale():
    left = np.random.default_rng(0).uniform(0.2, 0.6, size=7)
    error = np.sqrt(6 * np.mean((left - left.mean()) ** 2))
    half = t.ppf(0.975, 6) * error / (1 - 0.4**2)  # the derivative of artanh at 0.4
    expected = np.tanh([np.arctanh(0.4) - half, np.arctanh(0.4) + half])
    assert jackknife_interval(0.4, left) == pytest.approx(expected)
    assert jackknife_interval(1.0, np.ones(5)) == pytest.approx([1, 1])
    assert np.isnan(jackknife_interval(0.4, [0.3, np.nan, 0.5])).all()


def test_half_samples_make_a_students_interval_of_seven_degrees_of_freedom():
    # Of a mean, seven balanced splits of eight groups give the variance of the groups' means.
    values = np.random.default_rng(0).uniform(0.2, 0.4, size=80)
    halves = halves_of(80)
    assert (halves[::2] == ~halves[1::2]).all()
    assert (halves.sum(axis=1) == 40).all()
    groups = np.unique(halves, axis=1).T  # the images of a group are in the same halves
    means = [values[(group == halves.T).all(axis=1)].mean() for group in groups]
    low, high = ttest_1samp(means, 0).confidence_interval(0.95)
    expected = np.arctanh(values.mean()) + (np.array([low, high]) - values.mean()) / (
        1 - values.mean() ** 2
    )
    found = half_sample_interval(values.mean(), [values[half].mean() for half in halves])
    assert np.arctanh(found) == pytest.approx(expected)
    assert half_sample_interval(1.0, np.ones(14)) == pytest.approx([1, 1])
    assert np.isnan(half_sample_interval(0.4, [0.3, np.nan, 0.5, 0.4])).all()


def test_the_distances_to_the_ends_after_selection_add_up_in_squares_around_the_mean():
    halves = np.random.default_rng(0).uniform(0.4, 0.5, size=14)
    held = np.arctanh(half_sample_interval(0.5, halves)) - np.arctanh(0.5)
    still = AfterSelection(halves, np.full((2, 3), 0.5))
    assert selection_interval(0.5, still) == pytest.approx(half_sample_interval(0.5, halves))

    means = np.array([[0.48, 0.41, 0.5], [0.51, 0.5, 0.56]])
    (a, a_low, a_high), (b, b_low, b_high) = np.arctanh(means)
    centre = a + b - np.arctanh(0.5)
    below = np.sqrt(held[0] ** 2 + (a - a_low) ** 2 + (b - b_low) ** 2)
    above = np.sqrt(held[1] ** 2 + (a_high - a) ** 2 + (b_high - b) ** 2)
    found = selection_interval(0.5, AfterSelection(halves, means))
    assert np.arctanh(found) == pytest.approx([centre - below, centre + above])
    # Where the mean is far from the value, the interval reaches as far as the value.
    far = AfterSelection(np.full(14, 0.5), np.array([[0.4, 0.35, 0.45]]))
    assert selection_interval(0.5, far) == pytest.approx([0.35, 0.5])


def test_the_interval_of_a_mean_is_that_of_a_t_test():
    differences = np.random.default_rng(0).normal(0.2, 1, (32, 2))
    mean, low, high = mean_interval(differences)
    for i, column in enumerate(differences.T):
        expected = ttest_1samp(column, 0).confidence_interval(0.95)
        np.testing.assert_allclose([low[i], high[i]], [expected.low, expected.high])
        assert math.isclose(mean[i], column.mean())
    assert np.isnan(mean_interval(differences[:1])[1:]).all()


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 7), (50, 60), (60, 60)])
def test_the_interval_is_wilsons(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high))


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)


def test_the_paired_difference_and_its_interval():
    random = np.random.default_rng(0)
    a, b = random.random(500) < 0.9, random.random(500) < 0.7
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    # Near the normal interval of the differences, where there are many of them.
    moves = a.astype(float) - b.astype(float)
    half = 1.95996 * moves.std(ddof=1) / np.sqrt(500)
    assert (low, high) == pytest.approx((difference - half, difference + half), abs=0.003)


@pytest.mark.parametrize("n", [20, 64])
@pytest.mark.parametrize("shares", [(0.9, 0.05, 0.05), (0.97, 0.03, 0.0), (0.7, 0.25, 0.05)])
def test_the_paired_interval_holds_the_truth_also_where_models_hardly_differ(n, shares):
    random = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        agree, gained, _lost = random.multinomial(n, shares)
        a = np.arange(n) < agree + gained
        b = (np.arange(n) < agree) | (np.arange(n) >= agree + gained)
        _, low, high = paired_difference(a, b)
        held += low <= shares[1] - shares[2] <= high
    assert held / 500 > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 500)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (7, 2), (0, 40)])
def test_the_paired_interval_is_bonett_and_prices(gained, lost):
    n = 40
    a = np.arange(n) < gained
    b = (np.arange(n) >= gained) & (np.arange(n) < gained + lost)
    p, q = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = 1.959964 * np.sqrt((p + q - (p - q) ** 2) / (n + 2))
    expected = ((gained - lost) / n, max(-1, p - q - half), min(1, p - q + half))
    assert paired_difference(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [2, 3])
def test_an_interval_of_few_seeds_stays_in_range_and_holds_as_often(share, n):
    # Shares of 40 images in each of n seeds, which differ in what they have learnt.
    random = np.random.default_rng(n)
    learnt = random.beta(20 * share, 20 * (1 - share), size=(n, 4000))
    seeds = random.binomial(40, learnt) / 40
    whole, cut = mean_interval(seeds), mean_interval(seeds, SHARE)
    held = [(low <= share) & (share <= high) for _, low, high in (whole, cut)]
    assert (held[0] == held[1]).all()
    assert cut[1].min() >= 0
    assert cut[2].max() <= 1
    assert whole[2].max() > 1  # what it was for
    # Seeds that are equal have no spread, and so no interval of their own.
    apart = np.ptp(seeds, axis=0) > 0
    assert held[1][apart].mean() >= 0.93


def test_what_is_unknown_or_itself_out_of_range_stays():
    assert in_range([0.5, np.nan, np.nan], SHARE) == pytest.approx(
        [0.5, np.nan, np.nan], nan_ok=True
    )
    assert in_range([1.2, 0.9, 1.5], SHARE).tolist() == [1.2, 0.9, 1.2]


def test_the_difference_to_a_number_that_is_known_has_the_interval_of_the_other_turned_or_not():
    uneven = (0.5, 0.4, 0.8)
    assert independent_difference(uneven, (0.2, 0.2, 0.2)) == pytest.approx((0.3, 0.2, 0.6))
    assert independent_difference((0.2, 0.2, 0.2), uneven) == pytest.approx((-0.3, -0.6, -0.2))
    # Zou and Donner: each end is as far as the errors that lead there are together.
    _, low, high = independent_difference(uneven, (0.2, 0.16, 0.6))
    assert (0.3 - low, high - 0.3) == pytest.approx((np.hypot(0.1, 0.4), np.hypot(0.3, 0.04)))
