"""Linear CKA by the unbiased minibatch estimator, in the pieces that it is computed from.

Gram matrices are taken a batch at a time, HSIC is averaged over batches, and the ratio is formed
once, at the end (Nguyen et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.errors import UserError
from zoo.measures.features import CONSTANT

LABEL = "linear CKA (unbiased)"  # on the axes of figures
CACHED_COLUMNS = 1536
NOT_FINITE, IS_CONSTANT = "is not finite", "is constant"  # what is wrong with a layer
PROBLEMS = ("", IS_CONSTANT, NOT_FINITE)


def linear_cka(x: NDArray, y: NDArray) -> float:
    """Return the unbiased linear CKA of two representations of the same images.

    Args:
        x: (n, p) activations of n >= 4 images; more dimensions are flattened.
        y: (n, q) activations of the same images.

    Returns:
        HSIC₁(K, L) / √(HSIC₁(K, K) · HSIC₁(L, L)) with K = xxᵀ, L = yyᵀ. Higher is closer. 1 for
        equal up to rotation, shift and scale, about 0 for unrelated (the estimator is unbiased,
        so it can fall a little below 0).

    Raises:
        ValueError: n differs or is under 4, or a representation is constant or not finite.

    Source: Kornblith et al. 2019, Eq. 4; Nguyen et al. 2021, Eqs 3 and 5.

    >>> x = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(linear_cka(x, 3 * x + 1), 6)
    1.0
    """
    if len(x) != len(y):
        raise ValueError(f"expected the same images, got {len(x)} and {len(y)}")
    grams = []
    for name, values in (("x", x), ("y", y)):
        gram = centred_gram(torch.as_tensor(np.asarray(values, dtype=np.float64)))
        if gram.problem:
            raise ValueError(f"{name} {gram.problem}")
        grams.append(gram.values)
    return float(cka_from_hsic(pairwise_hsic(torch.stack(grams), len(x)).numpy())[0, 1])


@dataclass(frozen=True)
class CentredGram:
    """A U-centred Gram matrix, flattened to (n²,) float64, and what is wrong with it, if so.

    `code` () counts `PROBLEMS`. It stays on the device: who asks for `problem` waits for it.
    """

    values: torch.Tensor
    code: torch.Tensor

    @property
    def problem(self) -> str:
        """What is wrong, in words; empty where nothing is. Where something is, `values` are 0."""
        return PROBLEMS[int(self.code)]


def centred_gram(x: torch.Tensor) -> CentredGram:
    """Return the U-centred Gram matrix of a batch of activations.

    Args:
        x: (n, …) with n >= 4.

    The columns are shifted to about 0 first. That changes nothing in exact arithmetic, since
    U-centring removes what a shift adds, and keeps a float32 product exact enough when
    activations have a mean far above their deviation.

    Source: Song et al. 2012, Eq. 5; U-centring as in Székely & Rizzo 2014, Definition 2.
    """
    n = len(x)
    if n < 4:
        raise UserError(f"unbiased CKA needs at least 4 images in a batch, got {n}")
    # Products do not depend on the order of features: that of memory needs no copy (channels last).
    x = x.detach().permute(0, *sorted(range(1, x.ndim), key=x.stride, reverse=True)).flatten(1)
    gram, shift = _gram(x.to(torch.promote_types(x.dtype, torch.float32)))
    spread = gram.diagonal().sum()
    constant = spread <= CONSTANT**2 * (spread + n * shift)  # about ‖x‖²; False of NaN
    code = torch.where(torch.isfinite(spread), constant.long(), PROBLEMS.index(NOT_FINITE))
    return CentredGram(u_centre(gram).masked_fill_(code > 0, 0).flatten(), code)


def _gram(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gram matrix (n, n) of shifted columns and the shift's squared norm, in float64.

    The shift is the mean of about eight images: near enough to that of all, and all activations
    are read only once. A slice of columns is shifted and multiplied while it is in the
    processor's cache, and of the two equal off-diagonal quarters only one is computed: half the
    time of the plain product.
    """
    half = len(x) // 2
    gram = x.new_zeros(len(x), len(x))
    squared_shift = torch.zeros((), dtype=torch.float64, device=x.device)
    columns = min(x.shape[1], CACHED_COLUMNS) if x.device.type == "cpu" else x.shape[1]
    buffer = x.new_empty(len(x), columns)
    for part in x.split(columns, dim=1):
        shift = part[:: max(1, len(x) // 8)].mean(dim=0)
        moved = torch.sub(part, shift, out=buffer[:, : part.shape[1]])
        gram[:half].addmm_(moved[:half], moved.T)
        gram[half:, half:].addmm_(moved[half:], moved[half:].T)
        squared_shift += shift.double().square().sum()
    gram[half:, :half] = gram[:half, half:].T
    return gram.double(), squared_shift


def u_centre(gram: torch.Tensor) -> torch.Tensor:
    """U-centre symmetric (…, n, n) matrices in float64: zero diagonal, rows that sum to zero.

    Source: Székely & Rizzo 2014, Definition 2. The inner product of two U-centred matrices over
    n(n−3) is the unbiased HSIC₁.
    """
    n = gram.shape[-1]
    gram = gram.double().clone()
    gram.diagonal(dim1=-2, dim2=-1).zero_()
    rows = gram.sum(dim=-1, keepdim=True) / (n - 2)
    gram -= rows
    gram -= rows.mT
    gram += rows.sum(dim=-2, keepdim=True) / (n - 1)
    gram.diagonal(dim1=-2, dim2=-1).zero_()
    return gram


def pairwise_hsic(grams: torch.Tensor, n: int) -> torch.Tensor:
    """Return HSIC₁ of all pairs of layers, (layers, layers), from U-centred grams (layers, n²)."""
    return grams @ grams.T / (n * (n - 3))


def cka_from_hsic(hsic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CKA (…, layers, layers) from HSIC; NaN where a self-HSIC is not > 0."""
    own = np.diagonal(hsic, axis1=-2, axis2=-1)
    length = np.sqrt(np.where(own > 0, own, np.nan))
    return hsic / length[..., :, None] / length[..., None, :]
