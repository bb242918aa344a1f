"""From intervals to p-values, and their correction for several tests."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.intervals import Z95, Estimate


def p_from_interval(estimate: Estimate, threshold: float = 0.0) -> float:
    """Return the two-sided p-value that a 95 % interval implies against a threshold.

    Args:
        estimate: a value and the ends of its 95 % interval.
        threshold: what the value is tested against.

    Returns:
        In 0..1: below 0.05 just where the interval does not hold the threshold. NaN without an
        interval.

    Source: Altman & Bland 2011, with the half of the interval that looks at the threshold.

    >>> round(p_from_interval((0.5, 0.1, 0.9)), 4)
    0.0143
    """
    value, low, high = estimate
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan
    distance = abs(value - threshold)
    half = value - low if value > threshold else high - value
    if half <= 0:
        return 1.0 if distance == 0 else 0.0
    return math.erfc(Z95 * distance / half / math.sqrt(2))


def student_p(values: ArrayLike, threshold: float = 0.0) -> float:
    """Return the two-sided p-value of a mean against a threshold, by Student's t.

    Args:
        values: (n,) one a seed, n >= 2, not all of them the same.
        threshold: what the mean is tested against.

    >>> round(student_p([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    from scipy.special import stdtr

    found = np.asarray(values, dtype=np.float64)
    error = found.std(ddof=1) / math.sqrt(len(found))
    return float(2 * stdtr(len(found) - 1, -abs(found.mean() - threshold) / error))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for their number: all of them together err in at most 5 %.

    Args:
        p: (tests,) p-values; NaN is no test and stays NaN.

    Returns:
        (tests,): the smallest times their number, the next times one less, and so on; never
        falling, at most 1.

    Source: Holm 1979.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def simes(p: ArrayLike) -> float:
    """Return the p-value that at least one of several hypotheses is false; of none it is 1.

    Args:
        p: (tests,) of a hypothesis each, independent or positively dependent.

    Source: Simes 1986.

    >>> round(simes([0.01, 0.9, 0.02]), 3), round(simes([0.02, 0.02, 0.02]), 3)
    (0.03, 0.02)
    """
    values = np.sort(np.asarray(p, dtype=np.float64))
    return float((values * len(values) / np.arange(1, len(values) + 1)).min(initial=1))


def how_many_false(p: ArrayLike) -> NDArray[np.float64]:
    """Return the p-values (tests,) that at least 1, 2, … of several hypotheses are false.

    That at least k are, is shown where of every tests − k + 1 of them one is by `simes`. All of the
    statements together are wrong in at most 5 % where all of those below 0.05 are made, so that
    their number is a lower end of how many are false. No single one need be shown for that:
    many that are false alone at 0.02 are all counted, where `holm` finds none of them.

    Args:
        p: (tests,) of a hypothesis each, as for `simes`.

    Source: Goeman & Solari 2011, "Multiple testing for exploratory research".

    >>> how_many_false([0.02, 0.9, 0.02, 0.02]).round(3).tolist()
    [0.027, 0.03, 0.04, 0.9]
    """
    values = np.sort(np.asarray(p, dtype=np.float64))
    return np.maximum.accumulate([simes(values[least:]) for least in range(len(values))])
