"""Calibration against scikit-learn, torch and networks whose calibration is known."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from zoo.measures.calibration import (
    calibrated_error,
    calibration_error,
    calibration_error_interval,
    fit_temperature,
    log_probabilities,
    reliability,
)


def calibrated(n=4000, classes=5, seed=0):
    """Logits, and labels drawn from their own probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, size=(n, classes))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random((n, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    return logits, labels


def judged(logits, labels):
    found = np.exp(log_probabilities(logits))
    return found.max(axis=1), found.argmax(axis=1) == labels


def test_likelihood_is_that_of_scikit_learn_and_torch():
    logits, labels = calibrated(200)
    found = -log_probabilities(logits, 1.7)[np.arange(200), labels]
    chance = torch.softmax(torch.as_tensor(logits) / 1.7, dim=1).numpy()
    assert found.mean() == pytest.approx(log_loss(labels, chance, labels=range(5)))
    assert np.allclose(log_probabilities([[1e4, 0.0]]), [[0, -1e4]])


def test_reliability_is_scikit_learns_with_equally_filled_bins():
    confidence, right = judged(*calibrated(1500))
    bins = reliability(confidence, right, bins=15)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    assert np.allclose(bins[:, 0], mean, atol=2e-3)
    assert np.allclose(bins[:, 1], accuracy, atol=0.02)  # quantiles put an image on an edge aside
    assert (bins[:, 2] == 100).all()


def test_the_error_is_the_mean_gap():
    confidence = np.array([0.5, 0.6, 0.7, 0.9])
    right = np.array([True, False, True, True])
    expected = (2 * abs(0.5 - 0.55) + 2 * abs(1 - 0.8)) / 4
    assert calibration_error(confidence, right, bins=2) == pytest.approx(expected)
    assert calibration_error(confidence, right, bins=99) == pytest.approx(
        np.abs(confidence - right).mean()
    )


def test_the_temperature_is_the_one_that_the_logits_were_scaled_by():
    logits, labels = calibrated()
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.05)
    assert fit_temperature(3 * logits, labels) == pytest.approx(
        3 * fit_temperature(logits, labels), rel=1e-4
    )
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(
            torch.as_tensor(3 * logits) / log_t.exp(), torch.as_tensor(labels)
        )
        value.backward()
        return value

    optimiser.step(loss)
    assert fit_temperature(3 * logits, labels) == pytest.approx(log_t.exp().item(), rel=1e-4)


def test_no_temperature_is_best_where_all_images_are_right():
    logits = np.eye(4) * 3
    with pytest.raises(ValueError, match="no temperature is best"):
        fit_temperature(logits, np.arange(4))
    with pytest.raises(ValueError, match="no temperature is best"):
        fit_temperature(logits, (np.arange(4) + 1) % 4)


def test_a_calibrated_network_has_the_error_of_chance_and_a_sharpened_one_more():
    errors = [calibration_error(*judged(*calibrated(800, seed=seed))) for seed in range(30)]
    logits, labels = calibrated(800)
    confidence, _ = judged(logits, labels)
    assert calibrated_error(confidence) == pytest.approx(np.mean(errors), rel=0.1)
    sharp, right = judged(3 * logits, labels)
    assert calibration_error(sharp, right) > 4 * calibrated_error(sharp)


def test_the_interval_holds_the_error_of_many_images():
    logits, labels = calibrated(40_000)
    confidence, right = judged(2 * logits, labels)
    truth = calibration_error(confidence, right)
    held = 0
    for k in range(30):
        rows = slice(1000 * k, 1000 * (k + 1))
        value, low, high = calibration_error_interval(
            confidence[rows], right[rows], draws=100, seed=k
        )
        assert low <= value <= high
        held += low <= truth <= high
    assert held >= 25


def test_images_must_be_the_same():
    with pytest.raises(ValueError, match="expected the same images, got 2 and 1"):
        reliability(np.array([0.5, 0.6]), np.array([True]))


@pytest.mark.parametrize(("times", "least"), [(0, 0.95), (1, 0.9)])
def test_its_interval_holds_the_truth_also_of_calibrated_networks(times, least):
    # A calibrated network and one that is overconfident by a tenth of what it is above chance.
    random = np.random.default_rng(0)

    def drawn(n):
        confidence = 0.1 + 0.9 * random.beta(4, 2, n)
        return confidence, confidence - 0.1 * times * (confidence - 0.1)

    confidence, accuracy = drawn(200_000)
    truth = (confidence - accuracy).mean()
    held = 0
    for trial in range(100):
        confidence, accuracy = drawn(100)
        right = random.random(100) < accuracy
        value, low, high = calibration_error_interval(confidence, right, draws=100, seed=trial)
        assert low <= value <= high
        held += low <= truth <= high
    assert held / 100 >= least


def test_of_a_network_that_is_always_right_the_interval_is_as_wide_as_so_few_images_ask_for():
    # Of 64 images all right, 1 of 20 may be wrong and that still happens: the "rule of three".
    value, low, high = calibration_error_interval(np.full(64, 0.999), np.ones(64, dtype=bool))
    assert (value, low) == (pytest.approx(0.001), 0)
    assert 0.02 < high < 0.1
