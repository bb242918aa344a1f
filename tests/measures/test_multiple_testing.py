"""p-values of intervals against SciPy's normal test, and Holm's step-down written out."""

import numpy as np
import pytest
import scipy.stats

from zoo.measures.multiple_testing import holm, p_from_interval


@pytest.mark.parametrize("value", [-0.7, 0.3, 1.2])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_the_p_value_of_a_normal_interval_is_the_normal_tests(value, threshold):
    half = scipy.stats.norm.ppf(0.975) * 0.25
    found = p_from_interval((value, value - half, value + half), threshold)
    assert found == pytest.approx(2 * scipy.stats.norm.sf(abs(value - threshold) / 0.25))


def test_it_is_below_5_percent_just_where_the_interval_does_not_hold_the_threshold():
    # Of an interval that is no longer on one side, the half towards the threshold counts.
    assert p_from_interval((0.5, 0.01, 0.6)) < 0.05 < p_from_interval((0.5, -0.01, 0.6))
    assert p_from_interval((-0.5, -0.6, -0.01)) < 0.05 < p_from_interval((-0.5, -0.6, 0.01))
    assert p_from_interval((0.5, 0.5, 0.5)) == 0
    assert p_from_interval((0.0, 0.0, 0.0)) == 1
    assert np.isnan(p_from_interval((0.5, np.nan, np.nan)))


def holm_by_steps(p):
    """Reject the smallest as long as p <= level / (tests left); the least level that rejects it."""
    found = {}
    left, reached = dict(enumerate(p)), 0.0
    while left:
        i = min(left, key=left.get)
        reached = max(reached, left.pop(i) * (len(left) + 1))
        found[i] = min(reached, 1)
    return [found[i] for i in range(len(p))]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_its_step_down(seed):
    p = np.random.default_rng(seed).uniform(size=9) ** 3
    assert holm(p) == pytest.approx(holm_by_steps(list(p)))
    assert holm([0.5, np.nan, 0.01]) == pytest.approx([0.5, np.nan, 0.02], nan_ok=True)


def test_all_tests_together_err_as_often_as_one_may():
    p = np.random.default_rng(0).uniform(size=(4000, 10))
    wrong = np.mean([holm(row).min() <= 0.05 for row in p])
    assert wrong == pytest.approx(0.05, abs=0.011)  # three standard errors
