"""Ranges of noisy values: their ends against Student's t, and coverage."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tests.measures.grouped import GROUPS, means
from zoo.measures.ranges import range_draws
from zoo.measures.replicates import percentile_interval


def test_of_values_far_apart_the_range_is_the_difference_of_two():
    values = np.random.default_rng(0).normal([0, 90, 40, 10], [1, 2, 1, 1], (GROUPS, 4))
    value, *ends = percentile_interval(range_draws(means(values)))
    pair = values[:, 1] - values[:, 0]
    assert value == pytest.approx(pair.mean())
    interval = ttest_1samp(pair, 0).confidence_interval()
    assert ends == pytest.approx(interval, abs=0.1 * (interval.high - value))
    # The least and the most are one, so that a range less itself is 0 in every draw.
    least, most = range_draws(means(values)).T
    assert least == pytest.approx(most)


def test_the_most_is_the_highest_upper_end_of_two_values():
    # One that is measured badly may be far above the highest.
    values = np.random.default_rng(1).normal([0, 5, 4.9], [0.1, 0.1, 4], (GROUPS, 3))
    high = percentile_interval(range_draws(means(values)))[2]
    upper = ttest_1samp(values[:, 2] - values[:, 0], 0).confidence_interval().high
    assert high == pytest.approx(upper, abs=0.2)
    assert high > ttest_1samp(values[:, 1] - values[:, 0], 0).confidence_interval().high + 1


def test_of_equal_values_the_least_is_less_by_the_range_of_their_noise():
    values = np.random.default_rng(2).normal(size=(GROUPS, 6))
    values -= values.mean(axis=0)
    least = range_draws(means(values))[1:, 0]
    noise = np.random.default_rng(3).normal(size=(20000, GROUPS)) @ values
    scale = np.sqrt(11 / 9) / np.sqrt(GROUPS * 11)  # of Student's t, and of a mean
    expected = -scale * np.percentile(np.ptp(noise, axis=1), [50, 97.5])
    assert np.percentile(least, [50, 2.5]) == pytest.approx(expected, rel=0.1)


def test_values_in_between_change_nothing():
    ends = np.random.default_rng(4).normal([0, 0.3, 20], 1, (GROUPS, 3))
    between = np.random.default_rng(5).normal(10, 1, (GROUPS, 1))
    both = np.concatenate([ends, between], axis=1)
    assert range_draws(means(both)) == pytest.approx(range_draws(means(ends)))


def test_one_value_has_no_range_and_without_groups_a_range_stands_alone():
    assert not range_draws(means(np.ones((GROUPS, 2, 1)))).any()
    assert range_draws(means(np.array([[1.0, 4.0, 2.0]]))).tolist() == [[3, 3]]


LINE = np.arange(6.0)
LEVEL, APART = 0 * LINE, 30 * LINE


@pytest.mark.parametrize(
    ("rows", "least"),
    [
        ([LEVEL, LEVEL], 0.95),
        ([LINE, LINE], 0.95),
        ([APART, LEVEL], 0.95),
        ([LEVEL, LINE], 0.95),
        ([APART, APART], 0.9),  # 95 % are expected of 120 trials
    ],
)
def test_intervals_of_differences_hold_the_truth(rows, least):
    truth = (np.ptp(rows[0]) - np.ptp(rows[1])) / np.sqrt(GROUPS)
    held = []
    for trial in range(120):
        noise = np.random.default_rng(trial).normal(size=(GROUPS, 2, 6))
        noise[:, 1] = 0.6 * noise[:, 1] + 0.8 * (trial % 3 - 1) * noise[:, 0]
        first, second = range_draws(means(noise + np.array(rows) / np.sqrt(GROUPS))).swapaxes(0, 1)
        value, low, high = percentile_interval(first - second[:, ::-1])
        assert low <= value <= high
        held.append(low <= truth <= high)
    assert np.mean(held) >= least
