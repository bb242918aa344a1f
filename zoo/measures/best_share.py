"""A share of best matches, such as of tokens that are most like their own patch, on other images.

A best match is the highest of several noisy values. Drawn anew, with yet more noise, it is lost
more often than it is found, so that draws of such a share are too low. Here each best match is
tested against all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.measures.multiple_testing import how_many_false, simes
from zoo.measures.replicates import DRAWS, Replicates


def best_within(found: Replicates, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the p-values that the highest of several values is one of these, and that it is not.

    It is one of these where one of them exceeds each of the others: Student's t for each pair, the
    largest p of each of these, and `simes` over them. So it is the other way round.

    Args:
        found: the values (candidates,), whole and without each group of images.
        inside: (candidates,) which they are.
    """
    from scipy.special import stdtr

    gap, *gaps = (
        values[inside][:, None] - values[~inside] for values in (found.whole, *found.without)
    )
    squares = ((np.array(gaps) - gap) ** 2 * found.weight[:, None, None]).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # two may be the same
        ahead = np.nan_to_num(gap / np.sqrt(squares), posinf=np.inf, neginf=-np.inf)
    behind = stdtr(found.freedom, -ahead).max(axis=1, initial=0)
    return simes(behind), simes(stdtr(found.freedom, ahead).max(axis=0, initial=0))


def share_draws(share: float, tests: Sequence[tuple[float, float]], of: str) -> NDArray[np.float64]:
    """Return a share of best matches and, after it, what it may be on other images.

    How many are surely inside at a level (`how_many_false`) gives the lower end of the share at
    that level, and how many surely are not its upper end.

    Args:
        share: of things, at least one, whose best match is inside.
        tests: of each, `best_within`.
        of: whose share it is, a seed of its random order: differences of two take them for
            independent, and seeds of one model are taken to err alike.

    Returns:
        (1 + draws,): the share, then in random order its lower ends at the levels from 0 to 1/2 in
        equal steps and its upper ends at the same. `percentile_interval` of them is its interval.

    >>> tests = [(0.001, 1.0)] * 3 + [(0.4, 1.0)]
    >>> drawn = share_draws(1.0, tests, "vit trained")
    >>> np.percentile(drawn[1:], [2.5, 97.5]).tolist()
    [0.75, 1.0]
    """
    # At a level of 0 nothing is sure, which would be a draw against everything.
    levels = np.maximum(np.arange(DRAWS // 2), 0.5) / DRAWS
    low, out = (
        np.searchsorted(how_many_false(p), levels, "right") for p in zip(*tests, strict=True)
    )
    random = np.random.default_rng([*of.encode()])
    ends = random.permutation(np.concatenate([low, len(tests) - out]))
    return np.array([share, *ends / len(tests)])
