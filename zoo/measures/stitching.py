"""Stitching in closed form: one network's places predicted from another's by ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from zoo.measures.ridge import PENALTIES, RidgePath, mean_eigenvalue, solve_ridge

MOST_ROWS = 8192
JUDGED = 0.2


@dataclass(frozen=True)
class Stitch:
    """A linear map from places of A to places of B; `explained` is R² on places not fitted to."""

    path: RidgePath
    penalty: float
    explained: float

    def __call__(self, x: NDArray) -> NDArray[np.float64]:
        """Return predicted features (…, q) of features (…, p)."""
        flat = self.path.predict(np.asarray(x).reshape(-1, x.shape[-1]), self.penalty)
        return flat.reshape(*x.shape[:-1], -1)


def resample_places(
    places: torch.Tensor, grid: tuple[int, int], onto: tuple[int, int]
) -> torch.Tensor:
    """Return features on another grid, (n, onto places, channels).

    Args:
        places: (n, height · width, channels), row by row.
        grid: height and width.
        onto: height and width of the new grid; bilinear, a coarser one by means over its places.
    """
    if grid == onto:
        return places
    maps = places.transpose(1, 2).unflatten(2, grid)
    maps = functional.interpolate(
        maps, size=onto, mode="bilinear", antialias=True, align_corners=False
    )
    return maps.flatten(2).transpose(1, 2)


def fit_stitch(x: NDArray, y: NDArray, *, seed: int = 0) -> Stitch:
    """Fit a ridge regression with an intercept, its penalty chosen on images held out.

    Args:
        x: (n, places, p) features of A for n >= 5 images.
        y: (n, places, q) features of B for the same images and places.
        seed: of the images held out, and of the places where there are more than `MOST_ROWS`.

    Returns:
        The map of the best penalty (of equals, the largest), fitted to all images.

    Raises:
        ValueError: different images or places, too few images, features of A that are constant
            or not finite.

    Source: "direct matching" of Csiszárik et al. 2021. Bansal et al. 2021 and Lenc & Vedaldi 2015
    train the stitch through B to the labels instead, which may also find what B's own features
    at that layer do not hold.
    """
    if x.shape[:2] != y.shape[:2] or len(x) < 5:
        raise ValueError(f"expected the same 5 or more images, got {x.shape} and {y.shape}")
    random = np.random.default_rng(seed)
    n = len(x)
    judged = np.isin(np.arange(n), random.permutation(n)[: round(JUDGED * n)])
    fit_x, fit_y = _rows(x[~judged], y[~judged], random)
    held_x, held_y = _rows(x[judged], y[judged], random)
    path, unit = solve_ridge(fit_x, fit_y), mean_eigenvalue(fit_x)
    errors = {
        penalty: float(((path.predict(held_x, penalty * unit) - held_y) ** 2).sum())
        for penalty in PENALTIES
    }
    best = min(errors, key=lambda penalty: (errors[penalty], -penalty))
    spread = float(((held_y - held_y.mean(axis=0)) ** 2).sum())
    explained = 1 - errors[best] / spread if spread else float("nan")
    all_x, all_y = _rows(x, y, random)
    return Stitch(solve_ridge(all_x, all_y), best * mean_eigenvalue(all_x), explained)


def _rows(x: NDArray, y: NDArray, random: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return features as (rows, p) and (rows, q): all places, or `MOST_ROWS` drawn at random."""
    flat = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    if len(flat[0]) <= MOST_ROWS:
        return flat
    rows = random.choice(len(flat[0]), size=MOST_ROWS, replace=False)
    return flat[0][rows], flat[1][rows]
