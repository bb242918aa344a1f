"""Mutual nearest neighbours: do two layers put the same images close together?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.features import (
    DegenerateError,
    Measure,
    centred,
    prepare_both,
    squared_distances,
)
from zoo.measures.intervals import FIFTHS, HALVES, parts_interval, random_parts

NEIGHBOURS = 10


@dataclass(frozen=True)
class Near:
    """Each image's nearest other images.

    `order` (n, n − 1) has all of them, nearest first; the first `neighbours` count.
    """

    order: NDArray[np.integer]
    neighbours: int

    @property
    def nearest(self) -> NDArray[np.integer]:
        """The indices (k, n) of each image's neighbours, nearest first."""
        return self.order[:, : self.neighbours].T

    @cached_property
    def in_parts(self) -> dict[int, NDArray[np.integer]]:
        """The neighbours of each image within its own half and its own fifth of the images.

        (k / parts, splits, n): as large a share of the images of a part as k is of all.

        Raises:
            DegenerateError: a part has too few images.
        """
        n, found = len(self.order), {}
        for parts in (FIFTHS, HALVES):  # the first one needs more images
            k = max(1, self.neighbours // parts)
            if n // parts <= k:
                raise DegenerateError(f"needs at least {parts * (k + 1)} images, got {n}")
            near = [_nearest_within(self.order, part, k).T for part in random_parts(n, parts)]
            found[parts] = np.stack(near, axis=1)
        return found


def _nearest_within(
    order: NDArray[np.integer], part: NDArray[np.integer], k: int
) -> NDArray[np.integer]:
    """Return each image's k nearest (n, k) of its own part (n,), of which it is one of many."""
    found = np.empty((len(order), k), dtype=order.dtype)
    rows, reach = np.arange(len(order)), 4 * k * (int(part.max()) + 1)
    while len(rows):  # few need to look further
        near = order[rows, :reach]
        own = part[near] == part[rows, None]
        own &= own.cumsum(axis=1, dtype=np.int16) <= k
        enough = own.sum(axis=1) == k
        found[rows[enough]] = near[enough][own[enough]].reshape(-1, k)
        rows, reach = rows[~enough], 4 * reach
    return found


def mutual_knn(x: ArrayLike, y: ArrayLike, *, neighbours: int = NEIGHBOURS) -> float:
    """Return the share of nearest neighbours that two representations have in common.

    Args:
        x: (n, p) features of n > `neighbours` images.
        y: (n, q) features of the same images.
        neighbours: how many of each image's nearest other images count (k).

    Returns:
        The mean over images of |N_k(x_i) ∩ N_k(y_i)| / k by Euclidean distance, without the
        image itself; of equally near images the first one counts. In 0..1; higher is closer;
        k/(n−1) is expected of unrelated features.

    Raises:
        ValueError: the images differ in number or are too few, or a side is constant or not
            finite.

    Source: Huh et al. 2024 (who take the cosine instead of the distance).

    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> mutual_knn(x, 3 * x + 1)
    1.0
    """
    if neighbours < 1:
        raise ValueError(f"neighbours: expected at least 1, got {neighbours}")
    return compare_neighbours(
        *prepare_both(lambda z: prepare_neighbours(z, neighbours=neighbours), x, y)
    )


def prepare_neighbours(x: NDArray[np.float64], *, neighbours: int = NEIGHBOURS) -> Near:
    """Return the other images of each of n > `neighbours` by their features (n, d)."""
    if len(x) <= neighbours:
        raise DegenerateError(f"needs more than {neighbours} images, got {len(x)}")
    squares = squared_distances(centred(x))
    np.fill_diagonal(squares, np.inf)
    order = np.argsort(squares, axis=1, kind="stable")[:, :-1]
    return Near(order.astype(np.min_scalar_type(len(x))), neighbours)


def compare_neighbours(a: Near, b: Near) -> float:
    """Return the share of neighbours that two sides have in common."""
    return float(_in_common(a.nearest, b.nearest).mean() / a.neighbours)


def permuted_shares(
    a: Sequence[NDArray[np.int64]], b: Sequence[NDArray[np.int64]], orders: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the share of neighbours in common under each permutation of one side's images.

    Args:
        a: p layers' neighbours, each (n, k).
        b: those of q layers of the other network, whose images are permuted.
        orders: (permutations, n), the same for all layers.

    Returns:
        (permutations, p, q).
    """
    (n, k), near = a[0].shape, np.stack(a)
    marks = np.zeros((n * n, len(b)), dtype=np.uint8)  # where the second image is one of the first
    for j, of in enumerate(b):
        marks[(np.arange(n)[:, None] * n + of).ravel(), j] = 1
    found = np.empty((len(orders), len(a), len(b)))
    for m, order in enumerate(orders):
        found[m] = marks[order[:, None] * n + order[near]].sum(axis=(1, 2), dtype=np.int64)
    return found / (n * k)


def compare_parts(a: Near, b: Near) -> NDArray[np.float64]:
    """Return the share in each half and in each fifth of the images, (splits, 2 + 5)."""
    shares = []
    for parts in (HALVES, FIFTHS):
        near, other = a.in_parts[parts], b.in_parts[parts]
        shared, of = _in_common(near, other), random_parts(len(a.order), parts)
        shares += [np.mean(shared, axis=1, where=of == part) / len(near) for part in range(parts)]
    return np.stack(shares, axis=1)


def _in_common(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return how many of the images (k, …) of one side are among those of the other, (…)."""
    found = np.zeros(a.shape[1:], dtype=np.int32)
    for image in a:
        found += (image == b).any(axis=0)
    return found


MUTUAL_KNN = Measure(
    name="mutual_knn",
    title="Mutual nearest neighbours",
    label=f"shared of {NEIGHBOURS} nearest",
    prepare=prepare_neighbours,
    compare=compare_neighbours,
    leave_out=compare_parts,
    reduce=lambda near: near.nearest.T,
    permuted=permuted_shares,
    source="Huh et al. 2024",
    interval_from=parts_interval,
    high=0.5,  # networks that differ share few neighbours; 0 to 1 would leave it all dark
)
