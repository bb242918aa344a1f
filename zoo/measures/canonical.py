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
from zoo.measures.intervals import Z95, AfterSelection, halves_of, selection_interval
from zoo.measures.permutation import Directions, permuted_over_directions

VARIANCE = 0.99
UNLIKELY = 0.01  # less likely numbers of directions are left out: each costs a decomposition
# (…) of correlations (…, k), directions (…, k_a, k) in a basis, and that basis' loadings (k_a, d).
Average = Callable[[NDArray, NDArray, NDArray], NDArray]


@dataclass(frozen=True)
class PrincipalPart:
    """The k principal directions of centred features: X ≈ basis · loadings.

    `basis` is (n, k) with orthonormal columns, `loadings` (k, d).
    """

    basis: NDArray[np.float64]
    loadings: NDArray[np.float64]


@dataclass(frozen=True)
class Layer(PrincipalPart):
    """The principal part of all images, and what intervals are taken from.

    `wide` are the m directions that hold all but a tenth of what the k may leave out, and `chances`
    (3, m) say how likely other images keep each number of them (`chances_of_numbers`).
    """

    wide: PrincipalPart
    chances: NDArray[np.float64]

    def first(self, number: int) -> PrincipalPart:
        """Return the first principal directions, at most m."""
        return PrincipalPart(self.wide.basis[:, :number], self.wide.loadings[:number])

    @cached_property
    def halves(self) -> tuple[PrincipalPart, ...]:
        """The first k principal directions of each half of the images.

        Raises:
            DegenerateError: all images of a half are the same.
        """
        found = []
        rows = self.wide.basis * np.linalg.norm(self.wide.loadings, axis=1)
        for half in halves_of(len(rows)):
            basis, scales, _ = np.linalg.svd(centred(rows[half]), full_matrices=False)
            basis = basis[:, : min(self.basis.shape[1], _enough(scales, 1.0))]
            loadings = basis.T @ self.wide.basis[half] @ self.wide.loadings
            found.append(PrincipalPart(basis, loadings))
        return tuple(found)


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


def principal_part(x: NDArray[np.float64], *, variance: float = VARIANCE) -> Layer:
    """Return the fewest principal directions of features (n, d) that hold a share of variance."""
    if not 0 < variance <= 1:
        raise ValueError(f"variance: expected a share in (0, 1], got {variance}")
    basis, scales, directions = np.linalg.svd(centred(x), full_matrices=False)
    kept, wide = (_enough(scales, share) for share in (variance, 1 - (1 - variance) / 10))
    chances = chances_of_numbers((basis * scales) ** 2, variance, most=wide)
    loadings = scales[:wide, None] * directions[:wide]
    return Layer(
        basis[:, :kept], loadings[:kept], PrincipalPart(basis[:, :wide], loadings), chances
    )


def chances_of_numbers(
    squares: NDArray[np.float64], variance: float, *, most: int
) -> NDArray[np.float64]:
    """Return the chances that other images of the same kind keep each number of directions.

    The share of variance that the first k directions hold is taken for normal, with the standard
    error that its influence function gives (the directions themselves move it in second order
    only). The chance of k or fewer is that of a share of at least `variance`.

    Args:
        squares: (n, m) squared coordinates of the images in their m principal directions.
        variance: the share to keep.
        most: the largest number to tell apart; larger ones count as this one.

    Returns:
        (3, most): the chances of 1 … `most` directions, as estimated, and with all shares at the
        upper and at the lower end of their 95 % intervals. Each row adds up to 1.
    """
    from scipy.special import ndtr

    held, total = np.cumsum(squares[:, :most], axis=1), squares.sum()
    shares = held.sum(axis=0) / total
    influence = (held - shares * squares.sum(axis=1, keepdims=True)) / total
    # Where all images have the same share in the directions, only rounding is left.
    errors = np.maximum(np.linalg.norm(influence, axis=0), 1e-15)
    at_most = ndtr((shares - variance + 1e-12) / errors + np.array([[0], [Z95], [-Z95]]))
    at_most[:, -1] = 1
    return np.diff(np.maximum.accumulate(at_most, axis=1), axis=1, prepend=0)


def _enough(scales: NDArray[np.float64], variance: float) -> int:
    """Return how many singular values, largest first, hold a share of the sum of squares."""
    real = int((scales > CONSTANT * scales[0]).sum())
    held = np.cumsum(scales[:real] ** 2) / np.sum(scales[:real] ** 2)
    # Without the slack, the rounding of a cumulative sum could ask for one direction more.
    return min(int(np.searchsorted(held, variance - 1e-12)) + 1, real)


def canonical_correlations(
    a: PrincipalPart, b: PrincipalPart
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return correlations (k,), largest first, and their directions (k_a, k) in a's basis."""
    n, k_a, k_b = len(a.basis), a.basis.shape[1], b.basis.shape[1]
    if k_a + k_b >= n:
        raise DegenerateError(
            f"canonical correlations of {k_a} and {k_b} directions need more than "
            f"{k_a + k_b} images, got {n}"
        )
    directions, correlations, _ = np.linalg.svd(a.basis.T @ b.basis, full_matrices=False)
    return np.minimum(correlations, 1), directions  # rounding can leave 1 + 1e-16


def _plain_mean(correlations: NDArray, directions: NDArray, loadings: NDArray) -> NDArray:
    return np.asarray(correlations.mean(axis=-1))


def _weighted_mean(correlations: NDArray, directions: NDArray, loadings: NDArray) -> NDArray:
    weights = np.abs(directions.swapaxes(-1, -2) @ loadings).sum(axis=-1)
    return np.asarray((weights * correlations).sum(axis=-1) / weights.sum(axis=-1))


def compare_by(average: Average) -> Compare:
    """Return the function that averages the canonical correlations of two principal parts."""
    return lambda a, b: float(average(*canonical_correlations(a, b), a.loadings))


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
        return _weighted_mean(correlations, directions, loadings[:own])

    return Directions(a.basis, of_products)


def leave_out_by(average: Average) -> LeaveOut:
    """Return the function that averages the correlations in each half and for other numbers."""
    compare = compare_by(average)

    def leave_out(a: Layer, b: Layer) -> AfterSelection:
        halves = [compare(*half) for half in zip(a.halves, b.halves, strict=True)]
        means = [
            _mean_over(a.chances, lambda number: compare(a.first(number), b)),
            _mean_over(b.chances, lambda number: compare(a, b.first(number))),
        ]
        return AfterSelection(np.array(halves), np.array(means))

    return leave_out


def _mean_over(chances: NDArray, of_number: Callable[[int], float]) -> NDArray[np.float64]:
    """Return the means (3,) over numbers of directions, by their chances (3, m), of a value."""
    likely = np.flatnonzero(chances.max(axis=0) > UNLIKELY)
    weights = chances[:, likely]
    values = [of_number(number) for number in (likely + 1).tolist()]
    return np.asarray(weights @ values / weights.sum(axis=1))


SVCCA = Measure(
    name="svcca",
    title="SVCCA",
    label="mean correlation",
    prepare=principal_part,
    compare=compare_by(_plain_mean),
    leave_out=leave_out_by(_plain_mean),
    reduce=_plain_directions,
    permuted=permuted_over_directions,
    source="Raghu et al. 2017",
    interval_from=selection_interval,
    permute=lambda a, order: PrincipalPart(a.basis[order], a.loadings),
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
