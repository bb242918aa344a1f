"""Counts of parts: local heads, say, or layers whose best match is among some others.

A count jumps where noise takes one part across the bound. Where many parts lie close to it on one
side, noise moves nearly all that cross in one direction, and draws of the count around the
estimate miss the truth. Here each part is tested, and the tests are counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.multiple_testing import how_many_false, simes
from zoo.measures.replicates import DRAWS, Replicates


def above(found: Replicates, bound: float = 0.0) -> NDArray[np.float64]:
    """Return the p-values that values are above a bound, and that they are below it.

    Args:
        found: the values (…), whole and without each group of images.
        bound: what each is tested against, by Student's t.

    Returns:
        (…, 2); NaN where there are no groups.
    """
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):  # it may be the bound in all groups
        t = np.nan_to_num((found.whole - bound) / found.error, posinf=np.inf, neginf=-np.inf)
    return np.stack([stdtr(found.freedom, -t), stdtr(found.freedom, t)], axis=-1)


def on_both_sides(tests: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-values (2,) that some of several values are above and some below, or not.

    They are on both sides where one is above by `simes`, and one below. They are not, where all
    are above or all are below, which is two tests.

    Args:
        tests: (values, 2), by `above`.
    """
    return np.array([max(map(simes, tests.T)), simes(tests.max(axis=0))])


def best_within(found: Replicates, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the p-values (2,) that the highest of several values is one of these, and is not.

    It is one of these where one of them exceeds each of the others: `above` for each pair, the
    largest p of each of these, and `simes` over them. So it is the other way round.

    Args:
        found: the values (candidates,), whole and without each group of images.
        inside: (candidates,) which they are.
    """
    ahead, behind = np.moveaxis(
        above(found.map(lambda values: values[inside][:, None] - values[~inside])), -1, 0
    )
    return np.array([simes(ahead.max(axis=1, initial=0)), simes(behind.max(axis=0, initial=0))])


def count_draws(count: float, tests: ArrayLike) -> NDArray[np.float64]:
    """Return a count of parts and, after it, what it may be on other images.

    How many surely count at a level (`how_many_false`) is the lower end of the count at that
    level, and all but those that surely do not its upper end.

    Args:
        count: of the parts.
        tests: (parts, 2) of each, the p-values that it counts and that it does not.

    Returns:
        (1 + draws,): the count, its lower ends at the levels from 0 to 1/2 in equal steps, and its
        upper ends at the same, rising. `percentile_interval` of them is its interval. The count
        alone where the tests are NaN.

    >>> drawn = count_draws(4, [(0.001, 1.0)] * 3 + [(0.4, 0.6)])
    >>> np.percentile(drawn[1:], [2.5, 97.5]).tolist()
    [3.0, 4.0]
    """
    p = np.asarray(tests, dtype=np.float64)
    if np.isnan(p).any():
        return np.array([count], dtype=np.float64)
    # At a level of 0 nothing is sure, which would be a draw against everything.
    levels = np.maximum(np.arange(DRAWS // 2), 0.5) / DRAWS
    counted, not_counted = (np.searchsorted(how_many_false(side), levels, "right") for side in p.T)
    return np.array([count, *counted, *(len(p) - not_counted)[::-1]], dtype=np.float64)


def difference_draws(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the difference of two counts and, after it, what it may be on other images.

    Its lower end at a level is the lower end of the first less the upper end of the second, each at
    half that level (Bonferroni), however their errors depend on each other. Differences of
    draws in random order are too short: at the ends of the range, two networks that are each
    just short of certain would count as certain together.

    Args:
        first: (1 + draws,) a count, or a share, or a difference of such, with its draws.
        second: what is taken from it, likewise.

    Returns:
        (1 + draws,), as `count_draws`; the difference alone where either has no draws.

    >>> sure = count_draws(1, [(0.001, 1.0)])
    >>> drawn = difference_draws(sure, count_draws(0, [(0.9, 0.02)]))
    >>> np.percentile(drawn[1:], [2.5, 97.5]).tolist()
    [0.0, 1.0]
    """
    of = min(len(first), len(second)) // 4  # as many of its levels as lie below 1/4
    low, subtracted_low = (np.sort(draws[1:])[:of] for draws in (first, second))
    high, subtracted_high = (np.sort(draws[1:])[::-1][:of] for draws in (first, second))
    ends = np.concatenate([low - subtracted_high, (high - subtracted_low)[::-1]])
    return np.concatenate([first[:1] - second[:1], np.repeat(ends, 2)])
