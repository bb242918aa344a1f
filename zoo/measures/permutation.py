"""Permutation nulls: how alike would the best matches be if the images did not correspond?

A layer's best match is the largest of many similarities, so it is high by selection alone. The
null must select as well: the images of one network are permuted once for all of its layers, and
the best match is taken again each time (arXiv 2602.14486).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from zoo.measures.threads import in_threads

PERMUTATIONS = 200
MOST = 25  # directions of the layer that has fewer: the time is cubic in them
AT_ONCE = 16  # permutations whose small matrices are decomposed by one call
TIE = 1e-9  # permuted values that differ by less from what was observed are as large


def best_matches(similarities: ArrayLike) -> NDArray[np.float64]:
    """Return for each layer (…, p, q) its largest similarity with a layer of the other side.

    Returns:
        (…, p); NaN for a layer that has none.

    >>> best_matches([[0.1, 0.4], [np.nan, np.nan]]).tolist()
    [0.4, nan]
    """
    values = np.asarray(similarities, dtype=np.float64)
    best = np.max(values, axis=-1, initial=-np.inf, where=np.isfinite(values))
    return np.where(np.isfinite(best), best, np.nan)


def permutation_p(observed: ArrayLike, permuted: ArrayLike) -> NDArray[np.float64]:
    """Return the add-one p-value of statistics against their values under permutation.

    Args:
        observed: (…) statistics; higher is more alike.
        permuted: (permutations, …) the same statistics, each after a random permutation.

    Returns:
        (1 + the number of permuted values at least as large) / (1 + permutations), (…); NaN
        where a value is. It is never 0: the observed order is one of the possible ones.

    Source: Phipson & Smyth 2010.

    >>> permutation_p(0.9, [0.1, 0.3, 0.2]).item()
    0.25
    """
    value, null = np.asarray(observed, dtype=np.float64), np.asarray(permuted, dtype=np.float64)
    above = (null >= value - TIE).sum(axis=0)
    known = np.isfinite(value) & np.isfinite(null).all(axis=0)
    return np.where(known, (1 + above) / (1 + len(null)), np.nan)


def permuted_hsic(a: torch.Tensor, b: torch.Tensor, orders: NDArray[np.intp]) -> torch.Tensor:
    """Return HSIC₁ of all pairs of layers under each permutation of one side's images.

    Args:
        a: (p, n²) U-centred Gram matrices of a batch of n images.
        b: (q, n²) those of the other network; its images are permuted.
        orders: (permutations, n), each a permutation of the images, the same for all layers.

    Returns:
        (permutations, p, q) float64. A permutation leaves the self-HSIC of both sides as it is,
        so that CKA under it needs nothing else.

    The products are in float32 of matrices scaled to length 1: enough by far for the rank of a
    statistic.
    """
    n = round(a.shape[1] ** 0.5)
    first, second = torch.triu_indices(n, n, 1, device=a.device)
    sides, lengths = [], []
    for grams in (a, b):
        length = grams.norm(dim=1, keepdim=True)
        lengths.append(length)
        unit = grams / torch.where(length > 0, length, 1)
        sides.append(unit.view(-1, n, n)[:, first, second].float())
    found = permuted_products(sides[0], sides[1], orders).double()
    return 2 * found * lengths[0] * lengths[1].T / (n * (n - 3))


def permuted_products(a: torch.Tensor, b: torch.Tensor, orders: NDArray[np.intp]) -> torch.Tensor:
    """Return products of values of pairs of images under each permutation of one side's images.

    Args:
        a: (p, n(n−1)/2) values of each pair of images once, as the upper triangle lists them.
        b: (q, n(n−1)/2) those of the other network, whose images are permuted.
        orders: (permutations, n), each a permutation of the images, the same for all layers.

    Returns:
        (permutations, p, q).
    """
    n = orders.shape[1]
    first, second = torch.triu_indices(n, n, 1, device=a.device)
    number = torch.zeros(n, n, dtype=torch.long, device=a.device)
    number[first, second] = torch.arange(len(first), device=a.device)
    number += number.T.clone()
    right = b.T.contiguous()  # a pair of images lies together
    found = a.new_empty(len(orders), len(a), len(b))
    for k, order in enumerate(torch.as_tensor(orders, device=a.device)):
        # `index_select` takes a third of the time of square brackets.
        pairs = order.index_select(0, first) * n + order.index_select(0, second)
        found[k] = a @ right.index_select(0, number.flatten().index_select(0, pairs))
    return found


def permuted_over_pairs(
    a: Sequence[NDArray[np.float32]], b: Sequence[NDArray[np.float32]], orders: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return `permuted_products` (permutations, p, q) of layers that are (n(n−1)/2,) each."""
    left, right = (torch.from_numpy(np.stack(side)) for side in (a, b))
    return permuted_products(left, right, orders).double().numpy()


@dataclass(frozen=True)
class Directions:
    """A layer's rows (n, k), whose products with another layer's rows are all that is compared.

    `of_products` gives similarities (m,) to another layer from products (m, k, other's k) of both.
    """

    rows: NDArray[np.float64]
    of_products: Callable[[NDArray[np.floating]], NDArray[np.floating]]


def permuted_over_directions(
    a: Sequence[Directions], b: Sequence[Directions], orders: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return a similarity of p and q layers under each of some permutations (permutations, n).

    The images of `b` are permuted, in all layers alike. Of two layers, that with fewer directions
    is taken with its first 25 of them.

    Returns:
        (permutations, p, q).
    """
    left, right = ([layer.rows.astype(np.float32) for layer in side] for side in (a, b))

    def products(own: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
        fewer = own.shape[1] <= other.shape[2]
        return own[:, :MOST].T @ other if fewer else own.T @ other[:, :, :MOST]

    def similarities(some: NDArray[np.intp]) -> list[list[NDArray[np.floating]]]:
        return [
            [layer.of_products(products(own, other)) for layer, own in zip(a, left, strict=True)]
            for other in (layer[some] for layer in right)
        ]

    parts = np.array_split(orders, math.ceil(len(orders) / AT_ONCE))
    return np.concatenate(in_threads(similarities, parts), axis=2).transpose(2, 1, 0)
