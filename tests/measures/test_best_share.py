"""Shares of best matches: the tests behind them against independent formulas, and coverage."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_1samp

from zoo.measures.best_share import best_within, share_draws
from zoo.measures.multiple_testing import how_many_false, simes
from zoo.measures.replicates import GroupedMean, percentile_interval, percentile_p

GROUPS = 12


def means(values):
    """The mean of values (groups, candidates), whole and without each group."""
    found = GroupedMean(GROUPS)
    found.add(values)
    return found.result()


def test_simes_is_the_smallest_p_that_controls_false_discoveries():
    for p in np.random.default_rng(0).uniform(size=(20, 7)):
        assert simes(p) == pytest.approx(false_discovery_control(p).min())
    assert simes([]) == 1


@pytest.mark.parametrize("seed", range(20))
def test_how_many_are_false_is_what_all_sets_of_hypotheses_say(seed):
    p = np.random.default_rng(seed).beta(0.3, 1, 7)
    found = how_many_false(p)
    for level in (0.01, 0.025, 0.2, 0.5):
        # Closed testing: as many as remain beside the largest set that none need be false of.
        kept = [
            size for size in range(len(p) + 1)
            for some in combinations(p, size) if not some or simes(some) > level
        ]  # fmt: skip
        assert (found <= level).sum() == len(p) - max(kept)


def test_it_counts_what_holm_does_not():
    assert (how_many_false(np.full(10, 0.04)) < 0.05).all()


@pytest.mark.parametrize("inside", [[0], [1, 3]])
def test_the_best_is_tested_by_students_t_of_every_pair(inside):
    values = np.random.default_rng(1).normal([0.9, 0.6, 0.1, 0.5, 0.3], 0.5, (GROUPS, 5))
    at = np.isin(np.arange(5), inside)

    def beats(one, others):
        tests = [ttest_1samp(values[:, one] - values[:, o], 0, alternative="greater")
                 for o in others]  # fmt: skip
        return max(test.pvalue for test in tests)

    others = np.flatnonzero(~at)
    expected = [
        simes([beats(a, bs) for a in of]) for of, bs in ((inside, others), (others, inside))
    ]
    assert best_within(means(values), at) == pytest.approx(expected)


def test_without_others_the_best_is_surely_inside_and_equal_values_tell_nothing():
    values = np.random.default_rng(2).normal(size=(GROUPS, 1))
    assert best_within(means(values), np.array([True])) == (0, 1)
    twice = np.repeat(values, 2, axis=1)
    assert best_within(means(twice), np.array([True, False])) == (0.5, 0.5)


def test_intervals_of_a_share_and_of_differences_hold_the_truth():
    # Of each of 8 things candidate 0 is the best or not, all by a hair or by much.
    leads = np.array([[0.05] * 8, [2, 2, 2, 0.05, -0.05, -0.05, -2, -2]])
    held, differences = [], []
    for trial in range(100):
        random = np.random.default_rng(trial)
        both = []
        for of, lead in enumerate(leads):
            values = random.normal(size=(8, GROUPS, 4))
            values[:, :, 0] += lead[:, None]
            found = [means(one) for one in values]
            share = np.mean([one.whole.argmax() == 0 for one in found])
            tests = [best_within(one, np.arange(4) == 0) for one in found]
            both.append(share_draws(share, tests, f"{of}"))
        for draws, truth in zip(both, (leads > 0).mean(axis=1), strict=True):
            value, low, high = percentile_interval(draws)
            assert low <= value <= high
            held.append(low <= truth <= high)
            assert (percentile_p(draws, truth) < 0.05) <= (not held[-1])
        _, low, high = percentile_interval(both[0] - both[1])
        differences.append(low <= 0.5 <= high)
    assert np.mean(held) >= 0.95
    assert np.mean(differences) >= 0.95
