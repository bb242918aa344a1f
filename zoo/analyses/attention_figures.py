"""Figures of attention maps: maps laid over the images, and entropy against depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from zoo.figures import style
from zoo.figures.image_grid import enlarge_map, image_grid
from zoo.study.axes import Scale, select_heads
from zoo.study.results import Result

if TYPE_CHECKING:
    import xarray as xr

MAX_MAPS = 12  # more columns than these are too narrow to see anything in
SIDE = 128  # pixels of a drawn map
# Colours spread over shares of at least this ratio, so that rounding never looks like a pattern,
# and not below the floor, where nothing is left to tell apart.
LEAST_RATIO = 1.1
FLOOR = 0.25
# Marks on the colour bar, by the least ratio of its ends for which they are wide enough apart.
MARKS = {
    10.0: (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128),
    2.5: (0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 2.8, 4),
    0.0: (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6),
}
MAP_WEIGHT = 0.7


def draw_maps(part: xr.Dataset, what: str, column: str) -> Figure:
    """Draw a model's maps over its images: one row per image, the input first.

    Args:
        part: what the analysis found of the model.
        what: `rollout` or `heads`, the name of the maps.
        column: what a column is, `layer` or `head`; they are counted from 1.
    """
    images, shares = part["images"].values, part[what].values
    low, high = Scale.of(part[what]).ends
    chosen = np.unique(np.linspace(0, shares.shape[1] - 1, MAX_MAPS).round().astype(int))
    norm = LogNorm(low, high, clip=True)
    rows = [
        [enlarge(image), *(overlay(image, maps[i], norm) for i in chosen)]
        for image, maps in zip(images, shares, strict=True)
    ]
    label = "attention rollout" if what == "rollout" else "attention"
    marks = next(marks for ratio, marks in MARKS.items() if high / low >= ratio)
    return image_grid(
        rows,
        row_labels=part["image"].values.tolist(),
        column_labels=["input", *(f"{column} {i + 1}" for i in chosen)],
        norm=norm,
        bar_label=f"{label}: a patch's share over an even share (1: even)",
        ticks=[mark for mark in marks if low <= mark <= high],
        extend="both",
    ).figure


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


def overlay(image: NDArray[np.uint8], shares: NDArray, norm: Normalize) -> NDArray[np.uint8]:
    """Return a map's colours over the image in dimmed grey."""
    large = enlarge(image)
    # Enlarged on the colours' own scale, which is logarithmic.
    shown = np.asarray(norm(np.maximum(np.nan_to_num(shares, nan=FLOOR), FLOOR)))
    grown = enlarge_map(shown, *large.shape[:2])
    colours = mpl.colormaps[style.SEQUENTIAL](grown)[..., :3]
    grey = large.mean(axis=-1, keepdims=True) / 255
    mixed = MAP_WEIGHT * colours + (1 - MAP_WEIGHT) * grey
    return (mixed * 255).round().astype(np.uint8)


def enlarge(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) at the size of the drawn maps, small pixels as squares."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, method))


def draw_entropy(result: Result, compared: Sequence[str]) -> Figure:
    """Draw normalised entropy against depth: a model's line is the mean over heads."""
    with style.styled():
        figure, (axis,) = style.line_panels(size=(3.9, 1.9))
        for i, name in enumerate(compared):
            entropy = select_heads(result.data["normalised_entropy"], name).values
            depth = (np.arange(len(entropy)) + 1) / len(entropy)
            colour = style.COLOURS[i % len(style.COLOURS)]
            size = style.marker_points(len(depth))
            axis.plot(depth, entropy.mean(axis=1), "o-", ms=size, color=colour, label=name)
            axis.fill_between(
                depth, entropy.min(axis=1), entropy.max(axis=1), color=colour, alpha=0.15, lw=0
            )
        axis.axhline(1, color="0.5", lw=0.8, ls=":")
        axis.set(
            ylim=(0, 1.05),
            xlim=(0, 1.03),
            xlabel=style.DEPTH,
            ylabel="attention entropy / log(tokens)",
            title="line: mean of heads; band: lowest to highest head",
        )
        axis.legend(loc="lower left")
    return figure
