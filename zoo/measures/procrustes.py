"""Orthogonal Procrustes: how far apart are two shapes after the best rotation?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.canonical import nuclear_norms, principal_part
from zoo.measures.features import Measure, centred, prepare_both
from zoo.measures.intervals import half_sample_interval, halves_of
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


@dataclass(frozen=True)
class Shape:
    """Centred features (n, d) of length 1, d <= n."""

    features: NDArray[np.float64]

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """The shape (n, k) in the principal directions that hold 99 % of it."""
        part = principal_part(self.features)
        return part.basis * np.linalg.norm(part.loadings, axis=1)

    @cached_property
    def halves(self) -> tuple[NDArray[np.float64], ...]:
        """The same directions of each half of the images, as shapes of length 1.

        Raises:
            DegenerateError: all images of a half are the same.
        """
        found = [centred(self.rows[half]) for half in halves_of(len(self.rows))]
        return tuple(rows / np.linalg.norm(rows) for rows in found)


def prepare_shape(x: NDArray[np.float64]) -> Shape:
    """Return the shape of features (n, d), equal to theirs up to rotation."""
    moved = centred(x)
    if moved.shape[1] > len(moved):
        # Fewer images than features: the same shape in as many coordinates as there are images.
        basis, scales, _ = np.linalg.svd(moved, full_matrices=False)
        moved = basis * scales
    return Shape(moved / np.linalg.norm(moved))


def compare_shapes(a: Shape, b: Shape) -> float:
    """Return the nuclear norm of aᵀb."""
    values = np.linalg.svd(a.features.T @ b.features, compute_uv=False)
    return float(min(values.sum(), 1.0))  # rounding can leave 1 + 1e-16


def compare_halves(a: Shape, b: Shape) -> NDArray[np.float64]:
    """Return the overlap in each half of the images, (14,)."""
    products = [one.T @ other for one, other in zip(a.halves, b.halves, strict=True)]
    return np.minimum(nuclear_norms(np.stack(products)), 1)


PROCRUSTES = Measure(
    name="procrustes",
    title="Procrustes",
    label="1 − distance²/2",
    prepare=prepare_shape,
    compare=compare_shapes,
    leave_out=compare_halves,
    # Permutations compare the principal directions that hold 99 % of a shape.
    reduce=lambda a: Directions(a.rows, nuclear_norms),
    permuted=permuted_over_directions,
    source="Williams et al. 2021",
    interval_from=half_sample_interval,
    permute=lambda a, order: Shape(a.features[order]),
)
