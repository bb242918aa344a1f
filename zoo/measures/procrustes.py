"""Orthogonal Procrustes: how far apart are two shapes after the best rotation?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.canonical import nuclear_norms, principal_part
from zoo.measures.features import CONSTANT, Measure, centred, permute_rows, prepare_both
from zoo.measures.permutation import Directions, permuted_over_directions


def procrustes_similarity(x: ArrayLike, y: ArrayLike) -> float:
    """Return 1 − d²/2 of the normalised Procrustes distance d: the overlap of two shapes.

    Args:
        x: (n, p) features of n images.
        y: (n, q) features of the same images; the narrower side is padded with zeros.

    Returns:
        ‖XᵀY‖₊ / (‖X‖_F ‖Y‖_F) of the centred features, with the nuclear norm ‖·‖₊. In 0..1;
        higher is closer. 1 for equal up to rotation, reflection, shift and scale. It grows
        with the width of the layers even for unrelated features: read it against permuted
        images.

    Raises:
        ValueError: the images differ in number, or a side is constant or not finite.

    Source: Williams et al. 2021; Ding et al. 2021.

    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> round(procrustes_similarity(x, 3 * x[:, ::-1] + 1), 6)
    1.0
    """
    return compare_shapes(*prepare_both(prepare_shape, x, y))


def procrustes_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Return min over rotations Q of ‖X/‖X‖ − YQ/‖Y‖‖_F = √(2 − 2·similarity), in 0..√2.

    Lower is closer. Arguments and errors are those of `procrustes_similarity`.

    Source: Williams et al. 2021.
    """
    return math.sqrt(max(0.0, 2 - 2 * procrustes_similarity(x, y)))


def shape_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Return the angular shape metric, arccos of the Procrustes similarity, in 0..π/2 radians.

    Lower is closer, and it obeys the triangle inequality. Arguments and errors are those of
    `procrustes_similarity`.

    Source: Williams et al. 2021.
    """
    return math.acos(procrustes_similarity(x, y))


def prepare_shape(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return centred features of length 1, (n, d) with d <= n, equal to x's up to rotation."""
    moved = centred(x)
    if moved.shape[1] > len(moved):
        # Fewer images than features: the same shape in as many coordinates as there are images.
        basis, scales, _ = np.linalg.svd(moved, full_matrices=False)
        moved = basis * scales
    return moved / np.linalg.norm(moved)


def compare_shapes(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the nuclear norm of aᵀb."""
    values = np.linalg.svd(a.T @ b, compute_uv=False)
    return float(min(values.sum(), 1.0))  # rounding can leave 1 + 1e-16


def leave_out_shapes(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the overlap (n,) without each image; the best rotation stays what it is."""
    wide, narrow = (a, b) if a.shape[1] >= b.shape[1] else (b, a)
    product = wide.T @ narrow
    # From the eigenvectors of its square: half the time of the singular vectors.
    squares, right = np.linalg.eigh(product.T @ product)
    kept = squares > CONSTANT**2 * squares[-1]
    values, right = np.sqrt(squares[kept]), right[:, kept]
    shared = ((wide @ (product @ right / values)) * (narrow @ right)).sum(axis=1)
    first, second = ((side * side).sum(axis=1) for side in (a, b))
    return (values.sum() - shared) / np.sqrt((1 - first) * (1 - second))


def reduce_shape(a: NDArray[np.float64]) -> Directions:
    """Return the principal directions that hold 99 % of a shape, which permutations compare."""
    part = principal_part(a)
    return Directions(part.basis * np.linalg.norm(part.loadings, axis=1), nuclear_norms)


PROCRUSTES = Measure(
    name="procrustes",
    title="Procrustes",
    label="1 − distance²/2",
    prepare=prepare_shape,
    compare=compare_shapes,
    leave_out=leave_out_shapes,
    permute=permute_rows,
    reduce=reduce_shape,
    permuted=permuted_over_directions,
    source="Williams et al. 2021",
    in_full=False,
)
