"""Mutual nearest neighbours: do two layers put the same images close together?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.features import (
    DegenerateError,
    Measure,
    centred,
    prepare_both,
    squared_distances,
)

NEIGHBOURS = 10


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


def prepare_neighbours(
    x: NDArray[np.float64], *, neighbours: int = NEIGHBOURS
) -> NDArray[np.int64]:
    """Return the indices (n, k + 1) of each image's nearest other images, nearest first.

    The last one is no neighbour yet, but the next in line; of k + 1 images, the image itself.
    """
    if len(x) <= neighbours:
        raise DegenerateError(f"needs more than {neighbours} images, got {len(x)}")
    squares = squared_distances(centred(x))
    np.fill_diagonal(squares, np.inf)
    return np.argsort(squares, axis=1, kind="stable")[:, : neighbours + 1]


def compare_neighbours(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Return the share of neighbours that two sides (n, k + 1) have in common."""
    return float(_shared(a[:, :-1], b[:, :-1]).mean())


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


def leave_out_neighbours(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share (n,) without each image: where it was a neighbour, the next one comes."""
    (n, k), next_a, next_b = a[:, :-1].shape, a[:, -1:], b[:, -1:]
    a, b = a[:, :-1], b[:, :-1]
    if n == k + 1:
        raise DegenerateError(f"needs more than {k + 1} images to leave one out, got {n}")
    in_b, in_a = _shared(a, b), _shared(b, a)
    # What an image gains in common by the next one on a's side, on b's, and lost by the old one.
    gain_a, gain_b = _shared(next_a, b).astype(int), _shared(next_b, a).astype(int)
    both = gain_a + gain_b + (next_a == next_b) - 1
    change = np.bincount(a.ravel(), np.where(in_b, both, gain_a).ravel(), minlength=n)
    change += np.bincount(b.ravel(), np.where(in_a, 0, gain_b).ravel(), minlength=n)
    return (in_b.sum() - in_b.sum(axis=1) + change) / (k * (n - 1))


def _shared(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say for each of a's neighbours (n, j) whether it is one of the same image's in b (n, k)."""
    owner = np.arange(len(a))[:, None] * len(a)
    return np.isin(owner + a, owner + b)


MUTUAL_KNN = Measure(
    name="mutual_knn",
    title="Mutual nearest neighbours",
    label=f"shared of {NEIGHBOURS} nearest",
    prepare=prepare_neighbours,
    compare=compare_neighbours,
    leave_out=leave_out_neighbours,
    reduce=lambda near: near[:, :-1],
    permuted=permuted_shares,
    source="Huh et al. 2024",
    high=0.5,  # networks that differ share few neighbours; 0 to 1 would leave it all dark
)
