"""Stitching in closed form: one network's features predicted from another's by ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from zoo.measures.ridge import PENALTIES, RidgePath, mean_eigenvalue, solve_ridge


@dataclass(frozen=True)
class Stitch:
    """An affine map from features of A (…, p) to features of B (…, q)."""

    weights: NDArray[np.float64]
    offset: NDArray[np.float64]
    penalty: float

    def __call__(self, x: NDArray) -> NDArray[np.float64]:
        """Return the features of B that are predicted from features of A."""
        return x @ self.weights + self.offset


def fit_stitches(
    x: NDArray, targets: Sequence[NDArray], held_out: NDArray[np.bool_]
) -> list[Stitch]:
    """Fit ridge regressions with an intercept of several targets on the same features.

    All are solved from one eigendecomposition, and every penalty's error on the held-out rows
    follows from sums of products, without a prediction.

    Args:
        x: (n, p) features of A.
        targets: (n, q) features of B for the same rows, one array a layer.
        held_out: (n,) which rows choose the penalty and are not fitted. Rows of one image belong
            together.

    Returns:
        For each target the map of the best penalty (of equals, the largest).

    Raises:
        ValueError: other rows, nothing to fit or to judge, features of A that are constant or
            not finite.

    Source: "direct matching" of Csiszárik et al. 2021. Bansal et al. 2021 and Lenc & Vedaldi 2015
    train the stitch through B to the labels instead, which may also find what B's own features
    at that layer do not hold.

    >>> x = np.arange(8.0)[:, None]
    >>> (stitch,) = fit_stitches(x, [3 * x + 1], np.arange(8) % 4 == 0)
    >>> stitch(np.array([[10.0]])).round(3).tolist()
    [[31.0]]
    """
    if any(len(y) != len(x) for y in targets) or not 0 < held_out.sum() < len(x) - 1:
        raise ValueError(
            f"expected the same rows, some of them held out; got {len(x)} and "
            f"{[len(y) for y in targets]}, {int(held_out.sum())} held out"
        )
    widths = np.cumsum([y.shape[1] for y in targets])[:-1]
    together = np.concatenate(targets, axis=1).astype(np.float64)
    path, unit = solve_ridge(x[~held_out], together[~held_out]), mean_eigenvalue(x[~held_out])
    judged = (np.asarray(x[held_out], np.float64) - path.mean) @ path.basis
    wanted = together[held_out] - path.offset
    squares, both = judged.T @ judged, judged.T @ wanted
    each = zip(
        np.split(path.targets, widths, axis=1),
        np.split(both, widths, axis=1),
        np.split(wanted, widths, axis=1),
        np.split(path.offset, widths),
        strict=True,
    )
    return [_choose(path, unit, squares, *of) for of in each]


def _choose(
    path: RidgePath,
    unit: float,
    squares: NDArray[np.float64],
    solved: NDArray[np.float64],
    both: NDArray[np.float64],
    wanted: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> Stitch:
    """Return a target's map with the penalty of the least error on the held-out rows.

    With Z the held-out features in the path's basis, T its solved targets and D = 1 / (e + λ),
    ‖Z D T − Y‖² = Σᵢⱼ dᵢ dⱼ (ZᵀZ)ᵢⱼ (TTᵀ)ᵢⱼ − 2 Σᵢ dᵢ (T ∘ ZᵀY)ᵢ + ‖Y‖².
    """
    quadratic, linear = squares * (solved @ solved.T), (solved * both).sum(axis=1)
    constant = float((wanted**2).sum())
    errors = {}
    for penalty in PENALTIES:
        d = 1 / (path.eigenvalues + penalty * unit)
        errors[penalty] = float(d @ quadratic @ d - 2 * d @ linear) + constant
    best = min(errors, key=lambda penalty: (errors[penalty], -penalty))
    weights = path.basis @ (solved / (path.eigenvalues + best * unit)[:, None])
    return Stitch(weights, offset - path.mean @ weights, best * unit)


def resampling(grid: tuple[int, int], onto: tuple[int, int]) -> torch.Tensor:
    """Return the matrix (onto places, places) that resamples places, row by row, onto a grid.

    Bilinear; onto a coarser grid, means over the places that fall into one (antialiased).

    Args:
        grid: height and width of the places.
        onto: height and width of the new grid.

    >>> resampling((2, 2), (1, 1)).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    count = grid[0] * grid[1]
    if grid == onto:
        return torch.eye(count)
    each = torch.eye(count).view(1, count, *grid)
    maps = functional.interpolate(
        each, size=onto, mode="bilinear", antialias=True, align_corners=False
    )
    return maps[0].flatten(1).T
