"""Fingerprints: a layer's Gram matrices as one vector of length 1, so that CKA is a dot product.

What the unbiased minibatch estimator of linear CKA needs of a layer is its U-centred Gram matrix
of every batch. Of these the entries above the diagonal are enough, weighted so that the inner
product of two layers is their HSIC averaged over batches. Scaled to length 1, it is their CKA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.measures.features import DegenerateError, upper

if TYPE_CHECKING:  # many fingerprints are compared without torch
    from zoo.measures.replicates import Replicates

Vector = NDArray[np.float32]
Read = Callable[[int], Vector]
BLOCK = 64 << 20  # bytes of fingerprints in memory, twice


def fingerprint_length(batches: Sequence[int]) -> int:
    """Return how many numbers a fingerprint has, from the images in each batch."""
    return sum(n * (n - 1) // 2 for n in batches)


def fingerprint_of(grams: Sequence[NDArray[np.float64]]) -> Vector:
    """Return the fingerprint of a layer.

    Args:
        grams: (n, n) of each batch, U-centred (`zoo.measures.linear_cka.centred_gram`).

    Returns:
        (sum of n(n − 1)/2,) float32 of length 1.

    Raises:
        DegenerateError: all of them are 0, as those of a constant layer.
    """
    parts = [_weight(len(gram), len(grams)) * upper(gram) for gram in grams]
    whole = np.concatenate(parts)
    length = np.linalg.norm(whole)
    if not length > 0:
        raise DegenerateError("is constant")
    return (whole / length).astype(np.float32)


def _weight(n: int, batches: int) -> float:
    """Return what makes a product of entries above the diagonal an average of unbiased HSIC."""
    return math.sqrt(2 / (n * (n - 3)) / batches)


def similarity_matrix(read: Read, count: int, *, block: int = BLOCK) -> NDArray[np.float64]:
    """Return the CKA (count, count) of fingerprints that are read a block at a time.

    Args:
        read: returns a fingerprint by its index; each is read once for every block.
        count: how many there are.
        block: bytes that are in memory at once, twice.
    """
    rows = max(1, block // (8 * len(read(0))))
    starts = range(0, count, rows)
    found = np.empty((count, count))

    def load(start: int) -> NDArray[np.float64]:
        return np.stack([_unit(read(i)) for i in range(start, min(start + rows, count))])

    for first in starts:
        a = load(first)
        found[first : first + rows, first : first + rows] = a @ a.T
        for second in starts[first // rows + 1 :]:
            cells = a @ load(second).T
            found[first : first + rows, second : second + rows] = cells
            found[second : second + rows, first : first + rows] = cells.T
    np.fill_diagonal(found, 1.0)
    return found


def similarities(own: Vector, read: Read, count: int) -> NDArray[np.float64]:
    """Return the CKA (count,) of a fingerprint with others, of which one at a time is read."""
    return np.array([_unit(own) @ _unit(read(i)) for i in range(count)])


def _unit(vector: Vector) -> NDArray[np.float64]:
    """Return a fingerprint whose length is 1 in float64 too: it was rounded when it was stored."""
    whole = vector.astype(np.float64)
    return np.asarray(whole / np.linalg.norm(whole))


def similarity_replicates(
    own: Vector, others: Sequence[Vector], batches: Sequence[int]
) -> Replicates:
    """Return the CKA (others,) of a fingerprint with others, without each group of images too.

    Args:
        own: a fingerprint.
        others: those it is compared with.
        batches: images in each batch, the same for all.
    """
    import torch

    from zoo.measures.hsic_replicates import HsicReplicates
    from zoo.measures.linear_cka import cka_from_hsic

    known = HsicReplicates(batches=len(batches), layers=1 + len(others))
    whole, start = np.stack([own, *others]).astype(np.float64), 0
    for n in batches:
        grams = np.zeros((len(whole), n, n))
        i, j = np.triu_indices(n, 1)
        stop = start + len(i)
        grams[:, i, j] = grams[:, j, i] = whole[:, start:stop] / _weight(n, len(batches))
        known.add(torch.from_numpy(grams.reshape(len(whole), n * n)))
        start = stop
    return known.result().map(lambda hsic: cka_from_hsic(hsic)[0, 1:])


@dataclass(frozen=True)
class Placement:
    """Points (n, 2) in a plane; `share` is how much of the variance lies in it, 0 to 1."""

    points: NDArray[np.float64]
    share: float


def classical_scaling(cka: NDArray[np.float64]) -> Placement:
    """Place networks in the plane that keeps most of the differences between their fingerprints.

    Two fingerprints are √(2 − 2 CKA) apart. Of vectors, classical scaling of these distances is
    their principal components: the double-centred CKA is their covariance. Signs are chosen so
    that the largest coordinate along each axis is positive.

    Args:
        cka: (n, n) of fingerprints, n >= 2.

    Returns:
        The points, and the share of the variance: NaN where all fingerprints are the same.

    Source: Torgerson 1952; Gower 1966 for principal components.

    >>> placed = classical_scaling(np.array([[1.0, 0.5], [0.5, 1.0]]))
    >>> placed.points.round(2).tolist(), placed.share
    ([[0.5, 0.0], [-0.5, 0.0]], 1.0)
    """
    from scipy.linalg import eigh

    if len(cka) < 2:
        raise ValueError(f"expected two or more networks to place, got {len(cka)}")
    rows = cka.mean(axis=0)
    centred = cka - rows - rows[:, None] + rows.mean()
    values, vectors = eigh(centred, subset_by_index=(len(cka) - 2, len(cka) - 1))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), [0, 1]]
    points = vectors * np.where(largest < 0, -1, 1) * np.sqrt(values) + 0  # no -0
    whole = float(np.trace(centred))
    # What is left of the same fingerprints is rounding.
    share = float(values.sum()) / whole if whole > 1e-12 * len(cka) else math.nan
    return Placement(points, min(share, 1.0))
