"""Deconfounded CKA: how alike are two layers beyond what the images themselves make alike?

CKA of the U-centred Gram matrices K − αG, where α is the least-squares coefficient of K on that of
what is given, G. In −1..1; higher is closer; 0 for layers that are alike only as far as both are
like what is given: the images' pixels.

Source: after Cui et al. 2022 (arXiv 2202.00095), with the unbiased in place of the biased HSIC₁.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXPLAINED = 1e-6  # what is left of a layer's self-HSIC below this share is rounding


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
