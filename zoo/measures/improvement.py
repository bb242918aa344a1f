"""How likely a random seed of one model is better than one of another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from zoo.measures.intervals import Z95, Estimate

EDGE = 1e-9


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Return the probability that a random value of `a` is above one of `b`, with its interval.

    Args:
        a: (m,) such as accuracies of m seeds.
        b: (n,) of the seeds of another model, taken for independent of `a`.

    Returns:
        The share of all m × n pairs in which `a` is above, a tie counting half, and the ends of
        its 95 % interval. That is a score interval: of seeds that never overlap it has a width,
        which a percentile bootstrap of a few seeds does not.

    Source: Bouthillier et al. 2021 for the probability; Newcombe 2006 (Statistics in Medicine 25),
    method 5, for the interval: the p at which the share lies 1.96 standard errors off, by the
    variance of Hanley and McNeil with (m + n) / 2 for both numbers.

    >>> [round(number, 2) for number in probability_of_improvement([3, 4, 5], [1, 2, 6])]
    [0.67, 0.24, 0.92]
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not first.size or not second.size:
        raise ValueError(f"expected values of both, got {first.size} and {second.size}")
    apart = first[:, None] - second
    share = float((apart > 0).mean() + (apart == 0).mean() / 2)
    more = (len(first) + len(second)) / 2 - 1
    pairs = len(first) * len(second)

    def off(p: float) -> float:
        """Return how far the share lies from p beyond 1.96 standard errors of p, squared."""
        variance = p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / pairs
        return (share - p) ** 2 - Z95**2 * variance

    from scipy.optimize import brentq

    # At 0 and 1 the variance is 0, so that a share there would be its own solution.
    low = float(brentq(off, 0, min(share, 1 - EDGE))) if share > 0 else 0.0
    high = float(brentq(off, max(share, EDGE), 1)) if share < 1 else 1.0
    return share, low, high
