"""Representational similarity analysis (RSA): do two layers find the same images different?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.features import (
    CONSTANT,
    DegenerateError,
    Measure,
    by_image,
    centred,
    prepare_both,
    upper,
)
from zoo.measures.permutation import permuted_over_pairs


def rsa(x: ArrayLike, y: ArrayLike) -> float:
    """Return the rank correlation of two layers' dissimilarities between images.

    Args:
        x: (n, p) features of n >= 3 images, p >= 2.
        y: (n, q) features of the same images, q >= 2.

    Returns:
        Spearman's ρ between the entries above the diagonal of both dissimilarity matrices,
        where two images differ by 1 − the Pearson correlation of their feature vectors (not
        centred over images). In −1..1; higher is closer, about 0 for unrelated. A scale and a
        shift that are the same for all features change nothing; a rotation of them does.

    Raises:
        ValueError: the images differ in number; or a side is constant, not finite, has one
            feature, an image whose features are all equal, or all dissimilarities equal.

    Source: Kriegeskorte et al. 2008.

    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(rsa(x, 3 * x + 1), 6)
    1.0
    """
    return compare_ranks(*prepare_both(prepare_ranks, x, y))


@dataclass(frozen=True)
class Ranks:
    """Ranks of the dissimilarities of n(n−1)/2 pairs of images.

    `values` are centred and of length 1; `group` counts their different values upwards.
    """

    values: NDArray[np.float64]
    group: NDArray[np.intp]

    @cached_property
    def own_influence(self) -> NDArray[np.float64]:
        """How each image moves the correlation of the ranks with themselves; 0 but for rounding."""
        return _influence(self, self)


def prepare_ranks(x: NDArray[np.float64]) -> Ranks:
    """Rank the dissimilarities of all pairs of images."""
    centred(x, images=3)  # for its checks: constant and not finite features
    values = x.reshape(len(x), -1)
    if values.shape[1] < 2:
        raise DegenerateError("has one feature: images cannot be correlated")
    rows = values - values.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1)
    flat = np.flatnonzero(lengths <= CONSTANT * np.linalg.norm(values, axis=1))
    if flat.size:
        raise DegenerateError(
            f"has images whose features are all equal: {flat.size}, the first is number {flat[0]}"
        )
    rows /= lengths[:, None]
    # Rounding of equal dissimilarities must not make them different ranks.
    dissimilarities = np.round(upper(1 - rows @ rows.T), 12)
    _, group, counts = np.unique(dissimilarities, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]  # equal ones share their mean rank
    ranks -= ranks.mean()
    length = np.linalg.norm(ranks)
    if not length > 0:
        raise DegenerateError("has all dissimilarities equal")
    return Ranks(ranks / length, group)


def compare_ranks(a: Ranks, b: Ranks) -> float:
    """Return the correlation of the ranks of two sides."""
    return float(a.values @ b.values)


def leave_out_ranks(a: Ranks, b: Ranks) -> NDArray[np.float64]:
    """Return the correlation (n,) without each image, to first order.

    Leaving a pair of images out takes its own product from the correlation and moves the ranks
    of the pairs above it: the influence function of Spearman's ρ (Croux & Dehon 2010). Both
    sides' lengths move as well.
    """
    value = compare_ranks(a, b)
    return value - _influence(a, b) + value * (a.own_influence + b.own_influence) / 2


def _influence(a: Ranks, b: Ranks) -> NDArray[np.float64]:
    m = len(a.values)
    moved = _sum_above(b.values, a.group) + _sum_above(a.values, b.group)
    sums = by_image(m * a.values * b.values + math.sqrt(12 / m) * moved)
    return 2 * (sums - sums.mean()) / (len(sums) - 1) ** 2


def _sum_above(values: NDArray[np.float64], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return for each pair the sum over the pairs of higher groups, and half that of its own."""
    sums = np.bincount(group, weights=values)
    return (np.cumsum(sums[::-1])[::-1] - sums / 2)[group]


RSA = Measure(
    name="rsa",
    title="RSA",
    label="Spearman of dissimilarities",
    prepare=prepare_ranks,
    compare=compare_ranks,
    leave_out=leave_out_ranks,
    reduce=lambda ranks: ranks.values.astype(np.float32),
    permuted=permuted_over_pairs,
    source="Kriegeskorte et al. 2008",
    least=-1.0,
)
