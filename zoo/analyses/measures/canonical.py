"""Canonical correlation: SVCCA and PWCCA."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.analyses.measures.features import (
    CONSTANT,
    Compare,
    DegenerateError,
    LeaveOut,
    Measure,
    centred,
    prepare_both,
)

VARIANCE = 0.99
GROUPS = 8


@dataclass(frozen=True, eq=False)
class PrincipalPart:
    """The k principal directions of centred features: X ≈ basis · loadings.

    `basis` is (n, k) with orthonormal columns, `loadings` (k, d).
    """

    basis: NDArray[np.float64]
    loadings: NDArray[np.float64]

    @cached_property
    def without_groups(self) -> tuple[PrincipalPart, ...]:
        """The same directions of all images but one of eight groups, drawn at random, for each."""
        groups = np.random.default_rng(0).permutation(len(self.basis)) % GROUPS
        parts = []
        for group in range(GROUPS):
            kept = self.basis[groups != group]
            basis, mixed = np.linalg.qr(kept - kept.mean(axis=0))
            parts.append(PrincipalPart(basis, mixed @ self.loadings))
        return tuple(parts)


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
    return compare_svcca(a, b)


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
    return compare_pwcca(a, b)


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


@lru_cache(maxsize=GROUPS + 1)  # SVCCA and PWCCA ask for the same ones, one after the other
def canonical_correlations(
    a: PrincipalPart, b: PrincipalPart
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return correlations (k,), largest first, and their directions (k_a, k) in a's basis."""
    n, k_a = a.basis.shape
    k_b = b.basis.shape[1]
    if k_a + k_b >= n:
        raise DegenerateError(
            f"canonical correlations of {k_a} and {k_b} directions need more than "
            f"{k_a + k_b} images, got {n}"
        )
    directions, correlations, _ = np.linalg.svd(a.basis.T @ b.basis, full_matrices=False)
    return np.minimum(correlations, 1), directions  # rounding can leave 1 + 1e-16


def compare_svcca(a: PrincipalPart, b: PrincipalPart) -> float:
    """Return the mean canonical correlation of two principal parts."""
    return float(canonical_correlations(a, b)[0].mean())


def compare_pwcca(a: PrincipalPart, b: PrincipalPart) -> float:
    """Return the canonical correlations of two principal parts, weighted by the first."""
    correlations, directions = canonical_correlations(a, b)
    weights = np.abs(directions.T @ a.loadings).sum(axis=1)
    return float(weights @ correlations / weights.sum())


def leave_out_groups(compare: Compare) -> LeaveOut:
    """Return the function that compares two sides without each group of images in turn.

    Not without each image to first order, as the other measures do it: canonical correlations
    are too many for that, and the intervals came out a third too narrow (PWCCA).
    """

    def left_out(a: PrincipalPart, b: PrincipalPart) -> NDArray[np.float64]:
        sides = zip(a.without_groups, b.without_groups, strict=True)
        return np.array([compare(one, other) for one, other in sides])

    return left_out


SVCCA = Measure(
    name="svcca",
    title="SVCCA",
    label="mean correlation",
    prepare=principal_part,
    compare=compare_svcca,
    leave_out=leave_out_groups(compare_svcca),
    source="Raghu et al. 2017",
)
PWCCA = Measure(
    name="pwcca",
    title="PWCCA",
    label="weighted mean correlation",
    prepare=principal_part,
    compare=compare_pwcca,
    leave_out=leave_out_groups(compare_pwcca),
    source="Morcos et al. 2018",
)
