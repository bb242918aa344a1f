"""Kernel CKA: centred kernel alignment with a Gaussian (RBF) kernel."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from zoo.measures.features import (
    DegenerateError,
    Measure,
    by_image,
    centred,
    prepare_both,
    squared_distances,
    upper,
)
from zoo.measures.linear_cka import u_centre
from zoo.measures.permutation import permuted_over_pairs


def rbf_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Return the unbiased CKA of two representations with a Gaussian kernel on each.

    K_ij = exp(−‖x_i − x_j‖² / 2σ²), where σ is the median distance between two different
    images; then HSIC₁(K, L) / √(HSIC₁(K, K) · HSIC₁(L, L)) with the unbiased HSIC₁.

    Args:
        x: (n, p) features of n >= 4 images.
        y: (n, q) features of the same images.

    Returns:
        At most 1; higher is closer. 1 for equal up to rotation, shift and scale; about 0 for
        unrelated (unbiased, so it can fall a little below 0).

    Raises:
        ValueError: the images differ in number, or a side is constant, not finite, or has more
            than half of its pairs of images coincide.

    Source: Kornblith et al. 2019, Sec. 3; HSIC₁ of Song et al. 2012, Eq. 5.

    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(rbf_cka(x, 3 * x + 1), 6)
    1.0
    """
    return compare_kernels(*prepare_both(prepare_kernel, x, y))


def prepare_kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper half of the U-centred Gaussian kernel matrix, scaled to length 1."""
    squares = squared_distances(centred(x, images=4))
    width = float(np.median(upper(squares)))  # the square of the median distance
    if not width > 0:
        raise DegenerateError("has no bandwidth: most pairs of images coincide")
    kernel = torch.from_numpy(np.exp(-squares / (2 * width)))
    half = upper(u_centre(kernel).numpy())
    length = np.linalg.norm(half)
    if not length > 1e-12:
        raise DegenerateError("has all images equally far apart")
    return half / length


def compare_kernels(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the cosine between two prepared kernels."""
    return float(a @ b)


def leave_out_kernels(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine (n,) without each image; bandwidth and centring stay what they are."""
    shared, first, second = (by_image(product) for product in (a * b, a * a, b * b))
    return (a @ b - shared) / np.sqrt((1 - first) * (1 - second))


RBF_CKA = Measure(
    name="rbf_cka",
    title="RBF-kernel CKA",
    label="CKA (Gaussian, unbiased)",
    prepare=prepare_kernel,
    compare=compare_kernels,
    leave_out=leave_out_kernels,
    reduce=lambda kernel: kernel.astype(np.float32),
    permuted=permuted_over_pairs,
    source="Kornblith et al. 2019",
    least=-1.0,
)
