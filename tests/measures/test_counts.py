"""Counts of parts: the tests behind them against independent formulas, and coverage."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_1samp

from tests.measures.grouped import GROUPS, means
from zoo.measures.counts import above, best_within, count_draws, difference_draws, on_both_sides
from zoo.measures.multiple_testing import how_many_false, simes
from zoo.measures.replicates import percentile_interval, percentile_p


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
    assert best_within(means(values), np.array([True])).tolist() == [0, 1]
    twice = np.repeat(values, 2, axis=1)
    assert best_within(means(twice), np.array([True, False])).tolist() == [0.5, 0.5]


def test_a_value_is_above_or_below_a_bound_by_students_t():
    values = np.random.default_rng(3).normal(0.5, 1, (GROUPS, 2, 3))
    expected = [
        ttest_1samp(values, 0.4, alternative=side).pvalue for side in ("greater", "less")
    ]  # fmt: skip
    assert above(means(values), 0.4) == pytest.approx(np.stack(expected, axis=-1))
    assert np.isnan(above(means(values[:1]))).all()


def test_values_are_on_both_sides_of_a_bound_or_all_on_one():
    for p in np.random.default_rng(4).beta(0.3, 0.3, (20, 5)):
        both, one = on_both_sides(np.stack([p, 1 - p], axis=1))
        adjusted = [false_discovery_control(side).min() for side in (p, 1 - p)]
        assert both == pytest.approx(max(adjusted))
        assert one == pytest.approx(
            min(1, 2 * min(p.max(), (1 - p).max()), max(p.max(), 1 - p.min()))
        )


@pytest.mark.parametrize("seed", range(10))
def test_the_interval_of_a_count_is_what_all_sets_of_parts_say(seed):
    p = np.random.default_rng(seed).beta(0.3, 0.6, 7)
    drawn = count_draws((p < 0.5).sum(), np.stack([p, 1 - p], axis=1))
    for level in (0.05, 0.2, 0.8):
        sure = [
            len(p) - max(
                size for size in range(len(p) + 1)
                for some in combinations(side, size) if not some or simes(some) > level / 2
            )
            for side in (p, 1 - p)
        ]  # fmt: skip
        ends = np.percentile(drawn[1:], [50 * level, 100 - 50 * level], method="nearest")
        assert ends.tolist() == [sure[0], len(p) - sure[1]]


def test_a_count_without_groups_stands_alone():
    found = means(np.ones((1, 3)))
    assert count_draws(3, above(found)).tolist() == [3]
    sure = count_draws(2, [(0.0, 1.0)] * 2)
    assert difference_draws(sure, count_draws(3, above(found))).tolist() == [-1]


@pytest.mark.parametrize("level", [0.04, 0.2])
def test_a_difference_of_counts_takes_each_at_half_the_level(level):
    random = np.random.default_rng(5)
    one, other = (
        count_draws((p < 0.5).sum(), np.stack([p, 1 - p], axis=1))
        for p in random.beta(0.3, 0.6, (2, 9))
    )
    half = [25 * level, 100 - 25 * level]
    (low, high), (low_b, high_b) = (
        np.percentile(draws[1:], half, method="nearest") for draws in (one, other)
    )
    shuffled = np.array([other[0], *random.permutation(other[1:])])
    drawn = difference_draws(one, shuffled)
    ends = np.percentile(drawn[1:], [50 * level, 100 - 50 * level], method="nearest")
    assert ends.tolist() == [low - high_b, high - low_b]


def held(draws, truth):
    value, low, high = percentile_interval(draws)
    assert low <= value <= high
    holds = low <= truth <= high
    assert (percentile_p(draws, truth) < 0.05) <= (not holds)
    return holds


def test_intervals_of_best_matches_and_of_differences_hold_the_truth():
    # Of each of 8 things candidate 0 is the best or not, all by a hair or by much.
    leads = np.array([[0.05] * 8, [2, 2, 2, 0.05, -0.05, -0.05, -2, -2]])
    singles, differences = [], []
    for trial in range(100):
        random = np.random.default_rng(trial)
        both = []
        for lead in leads:
            values = random.normal(size=(8, GROUPS, 4))
            values[:, :, 0] += lead[:, None]
            found = [means(one) for one in values]
            count = sum(one.whole.argmax() == 0 for one in found)
            tests = [best_within(one, np.arange(4) == 0) for one in found]
            both.append(count_draws(count, tests))
        singles += map(held, both, (leads > 0).sum(axis=1))
        differences.append(held(difference_draws(*both), 4))
    assert np.mean(singles) >= 0.95
    assert np.mean(differences) >= 0.95


@pytest.mark.parametrize("errors", [0.2, 1])
@pytest.mark.parametrize("correlation", [0, 0.5])
def test_intervals_of_counts_hold_the_truth_where_all_parts_lie_on_one_side(errors, correlation):
    singles, differences = [], []
    for trial in range(100):
        random = np.random.default_rng(trial)
        both = []
        for side in (1, -1):
            values = np.sqrt(1 - correlation) * random.normal(size=(GROUPS, 8))
            values += np.sqrt(correlation) * random.normal(size=(GROUPS, 1))
            found = means(values + side * errors / np.sqrt(GROUPS))
            both.append(count_draws((found.whole > 0).sum(), above(found)))
        singles += map(held, both, (8, 0))
        differences.append(held(difference_draws(*both), 8))
    assert np.mean(singles) >= 0.95
    assert np.mean(differences) >= 0.95
