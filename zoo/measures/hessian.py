"""How sharply a loss bends: the largest eigenvalues of its Hessian, by Lanczos' method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

TOLERANCE = 1e-3  # of an eigenvalue


def largest_eigenvalues(
    loss: torch.Tensor, parameters: Sequence[torch.Tensor], count: int, *, seed: int = 0
) -> NDArray[np.float64]:
    """Return the Hessian's eigenvalues of largest magnitude, (count,), the largest first.

    The Hessian itself is never made: Lanczos' method asks for its products with vectors, each a
    second backward pass.

    Args:
        loss: a number, with the graph that leads to it, which must be differentiable twice: fused
            attention is not (`torch.nn.attention.sdpa_kernel`).
        parameters: the tensors that the loss bends along.
        count: how many eigenvalues.
        seed: of the vector to begin with.

    Raises:
        ValueError: a loss that is not finite, or that does not converge.

    Source: Lanczos' method as in ARPACK (scipy); Hessian-vector products: Pearlmutter 1994.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    if not bool(torch.isfinite(loss)):
        raise ValueError("the loss is not finite")
    size = sum(p.numel() for p in parameters)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    flat = torch.cat([slope.flatten() for slope in slopes])

    def product(vector: NDArray) -> NDArray:
        direction = torch.as_tensor(vector.ravel()).to(flat)
        bent = torch.autograd.grad(
            flat @ direction, parameters, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in bent]).float().cpu().numpy()

    # Twenty vectors of all weights are held at once: in the weights' own precision.
    operator = LinearOperator((size, size), matvec=product, dtype=np.float32)
    begin = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    try:
        found = eigsh(
            operator, count, which="LM", v0=begin, tol=TOLERANCE, return_eigenvectors=False
        )
    except ArpackNoConvergence:
        raise ValueError("its eigenvalues do not converge") from None
    return np.asarray(found[np.argsort(-np.abs(found))])
