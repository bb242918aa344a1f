"""Deconfounded CKA: how alike are two layers beyond what the images themselves make alike?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.measures.linear_cka import cka_from_hsic, hsic_of

EXPLAINED = 1e-6  # what is left of a layer's self-HSIC below this share is rounding


def deconfounded_cka(x: NDArray, y: NDArray, given: NDArray) -> float:
    """Return the unbiased linear CKA of two representations without what a third explains.

    Args:
        x: (n, p) activations of n >= 4 images; more dimensions are flattened.
        y: (n, q) activations of the same images.
        given: (n, r) what is taken away: the images' pixels.

    Returns:
        CKA of the U-centred Gram matrices K − αG, where α is the least-squares coefficient of K
        on the given one, G. In −1..1; higher is closer; 0 for layers that are alike only as far
        as both are like `given`.

    Raises:
        ValueError: n differs or is under 4, or a side is constant, not finite, or explained.

    Source: after Cui et al. 2022 (arXiv 2202.00095), with the unbiased HSIC₁ in place of the
    biased one.

    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(deconfounded_cka(x, 3 * x + 1, x[:, :2]), 6)
    1.0
    """
    value = cka_from_hsic(without_given(hsic_of(x=x, y=y, given=given), 2))
    if not np.isfinite(value[0, 1]):
        raise ValueError("a side is explained by what is given")
    return float(value[0, 1])


def permuted_without_given(
    permuted: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return HSIC of the residuals of two networks' layers when those of one are permuted.

    What is left of a layer is permuted, not the layer, which would be unlike what is given as well
    and have another length. The null is that what is left of both is unrelated, which is more than
    that their HSIC is 0.

    Args:
        permuted: (permutations, p + 1, q + 1) HSIC of the layers as they are, the images of the
            second side permuted; the last row of both sides is what is taken away.
        a: (p,) its coefficient in each layer of the first side, α = HSIC(K, G) / HSIC(G, G).
        b: (q,) that in each layer of the second side.

    Returns:
        (permutations, p, q): HSIC is linear in both sides, so that no residual is formed.

    Source: Freedman & Lane 1983 for the residuals; Legendre 2000 for matrices.
    """
    left = permuted[:, :-1] - a[:, None] * permuted[:, -1:]
    return left[:, :, :-1] - left[:, :, -1:] * b


def without_given(hsic: NDArray[np.float64], given: int) -> NDArray[np.float64]:
    """Return HSIC of all pairs of layers once one row's Gram matrix is regressed out of all.

    Args:
        hsic: (…, rows, rows) HSIC₁, also averaged over batches: there is then one coefficient
            a layer for all batches.
        given: the row that is taken away, such as that of the images' pixels.

    Returns:
        HSIC(K, L) − HSIC(K, G) · HSIC(L, G) / HSIC(G, G): the inner products of the residuals.
        The row itself, and one that it explains, is 0 with itself, and so has no CKA.
    """
    shared, own = hsic[..., :, given], hsic[..., given, given]
    with np.errstate(invalid="ignore"):
        left = hsic - shared[..., :, None] * shared[..., None, :] / own[..., None, None]
    before, after = (np.diagonal(h, axis1=-2, axis2=-1) for h in (hsic, left))
    explained = after <= EXPLAINED * before
    left[explained[..., :, None] | explained[..., None, :]] = 0
    return left
