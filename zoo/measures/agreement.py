"""Agreement: do two networks fail on the same images, and in the same way?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zoo.measures.intervals import jackknife_interval

BOTH, FIRST, SECOND, NEITHER = range(4)


def error_consistency_interval(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return error consistency and its 95 % interval (3,), by the jackknife over images.

    It is Cohen's kappa of being right or wrong together (Geirhos et al. 2020, Eq. 3): 0 as often
    as two independent models of these accuracies, 1 always, NaN where chance alone makes them agree
    on every image. NaN ends where leaving out one image leaves no chance of disagreement.
    """
    kinds = np.bincount(who_is_right(a, b), minlength=4)
    # Images of one kind leave the same value behind.
    left_out = np.repeat([_kappa(kinds - one) for one in np.eye(4, dtype=int)], kinds)
    value = _kappa(kinds)
    low, high = jackknife_interval(value, left_out) if math.isfinite(value) else (value, value)
    return np.array([value, low, high])


def who_is_right(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each image `BOTH`, `FIRST`, `SECOND` or `NEITHER` of two models is right.

    >>> who_is_right(np.array([1, 1, 0, 0]) > 0, np.array([1, 0, 1, 0]) > 0).tolist()
    [0, 1, 2, 3]
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"expected the same images, got {len(a)} and {len(b)}")
    return 2 * (~a).astype(np.int64) + ~b


def _kappa(kinds: NDArray[np.int64]) -> float:
    """Return Cohen's kappa of the numbers of images that both, one or none of two get right."""
    n = kinds.sum()
    if n in (kinds[BOTH], kinds[NEITHER]):
        return math.nan
    a, b = (kinds[BOTH] + kinds[FIRST]) / n, (kinds[BOTH] + kinds[SECOND]) / n
    expected = a * b + (1 - a) * (1 - b)
    observed = (kinds[BOTH] + kinds[NEITHER]) / n
    return float((observed - expected) / (1 - expected))
