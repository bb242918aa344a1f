"""Agreement of errors against scikit-learn, by hand and by simulation."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from zoo.measures.agreement import error_consistency_interval, who_is_right


def error_consistency(a, b):
    return error_consistency_interval(a, b)[0]


def two_models(n, seed):
    """Which images two models get right: they share half of their luck."""
    random = np.random.default_rng(seed)
    luck = random.random((n, 3))
    shared = random.random(n) < 0.5
    return np.where(shared, luck[:, 0], luck[:, 1]) < 0.7, np.where(
        shared, luck[:, 0], luck[:, 2]
    ) < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_consistency_is_cohens_kappa(seed):
    a, b = two_models(60, seed)
    assert error_consistency(a, b) == pytest.approx(cohen_kappa_score(a, b))
    assert error_consistency(a, b) == error_consistency(b, a)
    assert error_consistency(a, a) == pytest.approx(1)


def test_the_interval_is_the_jackknifes_written_out():
    a, b = two_models(40, 1)
    value, low, high = error_consistency_interval(a, b)
    assert value == error_consistency(a, b)
    without = np.array([cohen_kappa_score(np.delete(a, i), np.delete(b, i)) for i in range(40)])
    error = math.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    assert (math.atanh(high) - math.atanh(low)) / 2 == pytest.approx(
        2.0226909 * error / (1 - value**2), rel=1e-5
    )


def test_the_interval_holds_the_truth_as_often_as_it_says():
    a, b = two_models(400_000, 0)
    truth = error_consistency(a, b)
    held = 0
    for seed in range(300):
        _, low, high = error_consistency_interval(*two_models(150, seed + 1))
        held += low <= truth <= high
    assert 0.92 <= held / 300 <= 0.98


def test_models_that_chance_alone_makes_agree_have_no_consistency():
    always = np.ones(5, dtype=bool)
    assert math.isnan(error_consistency(always, always))
    assert np.isnan(error_consistency_interval(always, always)).all()
    once = np.array([True, True, True, False])
    assert error_consistency(np.ones(4, dtype=bool), once) == 0


def test_images_must_be_the_same():
    with pytest.raises(ValueError, match="expected the same images, got 2 and 1"):
        who_is_right(np.array([True, False]), np.array([True]))
