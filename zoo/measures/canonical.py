"""Canonical correlation: SVCCA and PWCCA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.features import (
    CONSTANT,
    Compare,
    DegenerateError,
    LeaveOut,
    Measure,
    centred,
    prepare_both,
)
from zoo.measures.permutation import Directions, permuted_over_directions

VARIANCE = 0.99
GROUPS = 8
# Of correlations (k,), their directions (k_a, k) in a basis, and that basis' loadings (k_a, d).
Average = Callable[[NDArray, NDArray, NDArray], float]


@dataclass(frozen=True)
class Group:
    """Images to leave out: their rows (m, k) of a basis, and what the others' rows are like.

    The others' rows, centred, are Q · `triangle` with orthonormal Q; `inverse` is its inverse.
    """

    rows: NDArray[np.float64]
    triangle: NDArray[np.float64]
    inverse: NDArray[np.float64]


@dataclass(frozen=True)
class PrincipalPart:
    """The k principal directions of centred features: X ≈ basis · loadings.

    `basis` is (n, k) with orthonormal columns, `loadings` (k, d).
    """

    basis: NDArray[np.float64]
    loadings: NDArray[np.float64]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Eight groups of images, drawn at random: the same ones for every layer.

        Raises:
            DegenerateError: without a group, there are fewer directions.
        """
        number = np.random.default_rng(0).permutation(len(self.basis)) % GROUPS
        groups = []
        for group in range(GROUPS):
            kept = self.basis[number != group]
            triangle = np.linalg.qr(kept - kept.mean(axis=0)).R
            if (
                triangle.shape[0] < triangle.shape[1]
                or np.abs(triangle.diagonal()).min() < CONSTANT
            ):
                raise DegenerateError("has directions that only a few images have")
            rows = self.basis[number == group]
            groups.append(Group(rows, triangle, np.linalg.inv(triangle)))
        return tuple(groups)


def svcca(x: ArrayLike, y: ArrayLike, *, variance: float = VARIANCE) -> float:
    """Return the mean canonical correlation of two representations' principal parts.

    Each side is centred and cut down to the fewest principal directions that hold `variance`
    of its total variance; the correlations are averaged over the smaller number of the two.

    Args:
        x: (n, p) features of n images.
        y: (n, q) features of the same images.
        variance: share in (0, 1] of the variance to keep; directions of no variance never count.

    Returns:
        In 0..1; higher is closer. 1 when the smaller kept subspace lies within the other.
        Unrelated features do not give 0 but about √(k/n) for k kept directions: read it
        against permuted images.

    Raises:
        ValueError: the images differ in number, a side is constant or not finite, or both
            sides' kept directions together are as many as the images (some correlations are
            then 1 for any features at all).

    Source: Raghu et al. 2017, Sec. 2.

    >>> x = np.random.default_rng(0).normal(size=(50, 5))
    >>> round(svcca(x, x @ np.diag([1, 2, 3, 4, 5]), variance=1.0), 6)
    1.0
    """
    a, b = prepare_both(lambda z: principal_part(z, variance=variance), x, y)
    return compare_by(_plain_mean)(a, b)


def pwcca(x: ArrayLike, y: ArrayLike, *, variance: float = VARIANCE) -> float:
    """Return the canonical correlations' mean, weighted by how much of x each accounts for.

    Σ α_i ρ_i / Σ α_i with α_i = Σ_j |⟨h_i, x_j⟩|, where h_i is the i-th canonical variate on
    the side of x and x_j a centred column of x's principal part. It is not symmetric: the
    weights are those of x, and a rotation of x changes them (of y, nothing).

    Args:
        x: (n, p) features of n images, which give the weights.
        y: (n, q) features of the same images.
        variance: share of the variance to keep first, as in `svcca`.

    Returns:
        In 0..1; higher is closer. As for SVCCA, unrelated features do not give 0.

    Raises:
        ValueError: as `svcca`.

    Source: Morcos et al. 2018.

    >>> x = np.random.default_rng(0).normal(size=(50, 5))
    >>> round(pwcca(x, x, variance=1.0), 6)
    1.0
    """
    a, b = prepare_both(lambda z: principal_part(z, variance=variance), x, y)
    return compare_by(_weighted_mean)(a, b)


def principal_part(x: NDArray[np.float64], *, variance: float = VARIANCE) -> PrincipalPart:
    """Return the fewest principal directions of features (n, d) that hold a share of variance."""
    if not 0 < variance <= 1:
        raise ValueError(f"variance: expected a share in (0, 1], got {variance}")
    basis, scales, directions = np.linalg.svd(centred(x), full_matrices=False)
    real = int((scales > CONSTANT * scales[0]).sum())
    held = np.cumsum(scales[:real] ** 2) / np.sum(scales[:real] ** 2)
    # Without the slack, the rounding of a cumulative sum could ask for one direction more.
    kept = min(int(np.searchsorted(held, variance - 1e-12)) + 1, real)
    return PrincipalPart(basis[:, :kept], scales[:kept, None] * directions[:kept])


def canonical_correlations(
    a: PrincipalPart, b: PrincipalPart
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return correlations (k,), largest first, and their directions (k_a, k) in a's basis."""
    return _correlate(a.basis.T @ b.basis, len(a.basis))


def _correlate(
    product: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return correlations and directions from the product (k_a, k_b) of orthonormal bases."""
    k_a, k_b = product.shape
    if k_a + k_b >= n:
        raise DegenerateError(
            f"canonical correlations of {k_a} and {k_b} directions need more than "
            f"{k_a + k_b} images, got {n}"
        )
    directions, correlations, _ = np.linalg.svd(product, full_matrices=False)
    return np.minimum(correlations, 1), directions  # rounding can leave 1 + 1e-16


def _plain_mean(correlations: NDArray, directions: NDArray, loadings: NDArray) -> float:
    return float(correlations.mean())


def _weighted_mean(correlations: NDArray, directions: NDArray, loadings: NDArray) -> float:
    return float(_weighted_means(correlations, directions, loadings))


def _weighted_means(correlations: NDArray, directions: NDArray, loadings: NDArray) -> NDArray:
    """Return the means (…) of correlations (…, k) with directions (…, k_a, k)."""
    weights = np.abs(directions.swapaxes(-1, -2) @ loadings).sum(axis=-1)
    return np.asarray((weights * correlations).sum(axis=-1) / weights.sum(axis=-1))


def permute_part(a: PrincipalPart, order: NDArray[np.intp]) -> PrincipalPart:
    """Return the principal part of a side whose images are permuted."""
    return PrincipalPart(a.basis[order], a.loadings)


def compare_by(average: Average) -> Compare:
    """Return the function that averages the canonical correlations of two principal parts."""
    return lambda a, b: average(*canonical_correlations(a, b), a.loadings)


def nuclear_norms(products: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the sums (…) of the singular values of products (…, p, q) of two sides.

    From the eigenvalues of their squares: half the time of singular values, and enough to rank.
    """
    squares = np.maximum(np.linalg.eigvalsh(_squared(products)), 0)
    return np.asarray(np.sqrt(squares).sum(axis=-1))


def _squared(products: NDArray[np.floating]) -> NDArray[np.floating]:
    turned = products.swapaxes(-1, -2)
    return products @ turned if products.shape[-2] <= products.shape[-1] else turned @ products


def _plain_directions(a: PrincipalPart) -> Directions:
    return Directions(a.basis, lambda products: nuclear_norms(products) / min(products.shape[-2:]))


def _weighted_directions(a: PrincipalPart) -> Directions:
    loadings = a.loadings.astype(np.float32)

    def of_products(products: NDArray[np.floating]) -> NDArray[np.floating]:
        squares, directions = np.linalg.eigh(_squared(products))
        correlations, own = np.sqrt(np.maximum(squares, 0)), products.shape[-2]
        if own > products.shape[-1]:  # they are b's: what they are on the side of a
            directions = products @ directions
            correlations = np.linalg.norm(directions, axis=-2)
            directions /= np.where(correlations > 0, correlations, 1)[..., None, :]
        return _weighted_means(correlations, directions, loadings[:own])

    return Directions(a.basis, of_products)


def leave_out_by(average: Average) -> LeaveOut:
    """Return the function that does so without each of eight groups of images in turn.

    Not without each image to first order, as the other measures do it: canonical correlations
    are too many for that, and the intervals came out a third too narrow (PWCCA).
    """

    def leave_out(a: PrincipalPart, b: PrincipalPart) -> NDArray[np.float64]:
        whole = a.basis.T @ b.basis
        values = []
        for one, other in zip(a.groups, b.groups, strict=True):
            kept = len(a.basis) - len(one.rows)
            # Both bases are centred: the others' sums are minus those of the group.
            sums = np.outer(one.rows.sum(axis=0), other.rows.sum(axis=0))
            product = whole - one.rows.T @ other.rows - sums / kept
            product = one.inverse.T @ product @ other.inverse
            correlations, directions = _correlate(product, kept)
            values.append(average(correlations, one.triangle.T @ directions, a.loadings))
        return np.array(values)

    return leave_out


SVCCA = Measure(
    name="svcca",
    title="SVCCA",
    label="mean correlation",
    prepare=principal_part,
    compare=compare_by(_plain_mean),
    leave_out=leave_out_by(_plain_mean),
    permute=permute_part,
    reduce=_plain_directions,
    permuted=permuted_over_directions,
    source="Raghu et al. 2017",
    in_full=False,
)
PWCCA = replace(
    SVCCA,
    name="pwcca",
    title="PWCCA",
    label="weighted mean correlation",
    compare=compare_by(_weighted_mean),
    leave_out=leave_out_by(_weighted_mean),
    reduce=_weighted_directions,
    source="Morcos et al. 2018",
)
