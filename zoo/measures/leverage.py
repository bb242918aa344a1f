"""Dominant images: does a similarity rest on a few of them?"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

SHARE = 0.05  # of a batch's images: those that are left out as dominant


def leverage(grams: torch.Tensor) -> NDArray[np.float64]:
    """Return what share of each layer's self-HSIC each image has a part in.

    Args:
        grams: (layers, n²) U-centred Gram matrices of n images.

    Returns:
        (layers, n): Σ_j K_ij² / Σ_ij K_ij². Shares of a layer sum to 1; even ones are 1/n. NaN
        for a constant layer.

    Source: after Nguyen et al. 2022 (arXiv 2202.07184), who look at the images that dominate
    the first principal component.
    """
    n = round(grams.shape[1] ** 0.5)
    rows = grams.view(-1, n, n).square().sum(dim=2)
    return (rows / rows.sum(dim=1, keepdim=True)).cpu().numpy()


def without_dominant(shares: NDArray[np.float64], share: float = SHARE) -> NDArray[np.intp]:
    """Return which images are left without those of the highest leverage.

    Args:
        shares: (layers, n) as `leverage` gives them; NaN rows do not count.
        share: of the images that are left out, rounded up; at least 4 images stay.

    Returns:
        (kept,) their numbers, in order.
    """
    known = shares[np.isfinite(shares).all(axis=1)]
    n = shares.shape[1]
    dominant = min(math.ceil(share * n), max(n - 4, 0))
    if not len(known):
        return np.arange(n)
    return np.sort(np.argsort(known.mean(axis=0), kind="stable")[: n - dominant])
