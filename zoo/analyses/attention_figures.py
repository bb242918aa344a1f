"""Figures of attention maps: maps laid over the images, and entropy against depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.seed_bands import seed_line
from zoo.figures import style
from zoo.figures.image_grid import image_grid
from zoo.figures.seen_through import enlarge, seen_through
from zoo.measures.intervals import SHARE
from zoo.study.axes import Scale, select_heads
from zoo.study.results import Result

if TYPE_CHECKING:
    import xarray as xr

# More columns are too narrow to see anything in.
MOST_MAPS = {"rollout": 5, "heads": 8}
MARKED = 1.5  # times an even share: patches that get so much are outlined
# What is seen spreads over shares of at least this ratio, so that rounding never looks like a
# pattern, and not below the floor, where nothing is left to tell apart.
LEAST_RATIO = 1.1
FLOOR = 0.25


def draw_maps(part: xr.Dataset, what: str, column: str) -> Figure:
    """Draw a model's maps over its images: one row per image, the input first.

    Args:
        part: what the analysis found of the model.
        what: `rollout` or `heads`, the name of the maps.
        column: what a column is, `layer` or `head`; they are counted from 1.
    """
    images, shares = part["images"].values, part[what].values
    low, high = Scale.of(part[what]).ends
    chosen = np.unique(np.linspace(0, shares.shape[1] - 1, MOST_MAPS[what]).round().astype(int))
    rows = [
        [enlarge(image), *(overlay(image, maps[i], low, high) for i in chosen)]
        for image, maps in zip(images, shares, strict=True)
    ]
    return image_grid(
        rows,
        row_labels=part["image"].values.tolist(),
        column_labels=["input", *(f"{column} {i + 1}" for i in chosen)],
        cell=1.1,
        foot=describe_shares(low, high),
    ).figure


def describe_shares(low: float, high: float) -> str:
    """Say how shares of attention are drawn that run from `low` to `high`.

    >>> describe_shares(0.5, 2)
    "a patch's share over an even one, from 0.5 (faded) to 2 (in full); outlined: from 1.5"
    """
    marked = f"; outlined: from {MARKED:g}" if high > MARKED else ""
    return (
        f"a patch's share over an even one, from {low:.2g} (faded) to {high:.2g} (in full){marked}"
    )


def relative_share(maps: NDArray) -> NDArray[np.float64]:
    """Return maps (…, height, width) over their own mean: 1 is an even share; zeros stay zeros."""
    maps = np.asarray(maps, dtype=np.float64)
    means = maps.mean(axis=(-2, -1), keepdims=True)
    return np.divide(maps, means, out=np.zeros_like(maps), where=means > 0)


def colour_range(shares: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range, around an even share, that holds all but the most extreme 1 % of shares."""
    values = shares[np.isfinite(shares)]
    low, high = np.quantile(values, [0.005, 0.995]) if values.size else (1.0, 1.0)
    return max(min(float(low), 1 / LEAST_RATIO), FLOOR), max(float(high), LEAST_RATIO)


def overlay(
    image: NDArray[np.uint8], shares: NDArray, low: float, high: float
) -> NDArray[np.uint8]:
    """Return an image seen by shares of attention, on a logarithmic scale from `low` to `high`."""
    norm = LogNorm(low, high, clip=True)
    strength = np.asarray(norm(np.maximum(np.nan_to_num(shares, nan=FLOOR), FLOOR)))
    return seen_through(image, strength, float(norm(MARKED)) if high > MARKED else None)


def draw_entropy(result: Result, compared: Sequence[str]) -> Figure:
    """Draw normalised entropy against depth: a model's line is the mean over heads.

    Of several seeds it is the mean over them too, and the band is over seeds.
    """
    with style.styled():
        figure, (axis,) = style.line_panels(size=(3.9, 1.9))
        several = False
        for i, name in enumerate(compared):
            if name not in result.networks:
                continue  # a model keeps its colour where another has no attention
            entropy = select_heads(result.data["normalised_entropy"], name).values
            depth = (np.arange(len(entropy)) + 1) / len(entropy)
            colour = style.colour(i)
            size = style.marker_points(len(depth))
            means = result.data["normalised_entropy"].mean("head")
            of_heads = entropy.min(axis=1), entropy.max(axis=1)
            label, line, ends = seed_line(means, name, of_heads, within=SHARE)
            several = several or label != name
            axis.plot(depth, line, f"{style.marker(i)}-", ms=size, color=colour, label=label)
            axis.fill_between(depth, *ends, color=colour, alpha=0.15, lw=0)
        axis.axhline(1, color="0.5", lw=0.8, ls=":")
        axis.set(
            ylim=(0, 1.05),
            xlim=(0, 1.03),
            xlabel=style.DEPTH,
            ylabel="attention entropy / log(tokens)",
            title="mean of heads; band: "
            + ("over seeds (95 %)" if several else "lowest to highest"),
        )
        axis.legend(loc="lower left")
    return figure
