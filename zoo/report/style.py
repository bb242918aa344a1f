"""One look for every figure: sizes, colours, and the few kinds of panels that are shared.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; heat maps use cividis or
viridis, which are even in lightness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SEQUENTIAL = "viridis"
WIDTH = 7.0  # inches: the width of a printed page's text
LABEL_LIMIT = 26  # more tick labels than this overlap on a panel

STYLE = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "hatch.linewidth": 0.4,
    "svg.hashsalt": "zoo",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class HeatMap:
    """A matrix with names along both sides; NaN cells are drawn hatched."""

    values: NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]
    row_title: str
    column_title: str


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style, and only for as long as the context lasts."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """Return an empty figure in inches; it is not known to pyplot and needs no closing."""
    return Figure(figsize=(width, height), layout="constrained")


def heat_maps(
    panels: Sequence[HeatMap], *, colour_label: str, low: float, high: float
) -> Figure:
    """Draw matrices side by side on one colour scale."""
    with styled():
        figure = new_figure(WIDTH, 0.9 + WIDTH / max(len(panels), 2.2))
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            image = heat_map(axis, panel, low=low, high=high)
        figure.colorbar(image, ax=list(axes), label=colour_label, shrink=0.8, pad=0.01)
    return figure


def heat_map(axis: Axes, panel: HeatMap, *, low: float, high: float) -> mpl.image.AxesImage:
    """Draw one matrix: first layers at the bottom left, as in the papers."""
    values = np.ma.masked_invalid(panel.values)
    axis.patch.set(facecolor="white", hatch="xxxx", edgecolor="0.6")
    image = axis.imshow(
        values, origin="lower", cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axis.set_xlabel(panel.column_title)
    axis.set_ylabel(panel.row_title)
    axis.set_xticks(*_ticks(panel.columns), rotation=90)
    axis.set_yticks(*_ticks(panel.rows))
    axis.set_box_aspect(1)
    return image


def _ticks(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return positions and labels, thinned out so that they never overlap."""
    step = max(1, math.ceil(len(names) / LABEL_LIMIT))
    positions = list(range(0, len(names), step))
    return positions, [shorten(names[i]) for i in positions]


def shorten(name: str, length: int = 22) -> str:
    """Cut a layer's name in the middle where it is too long to print.

    >>> shorten("features.denseblock1.denselayer12.conv1", 16)
    'features…2.conv1'
    """
    if len(name) <= length:
        return name
    head = (length - 1) // 2 + (length - 1) % 2
    return f"{name[:head]}…{name[-(length - 1 - head):]}"


def image_grid(
    images: Sequence[Sequence[NDArray]],
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    cell: float = 0.85,
) -> tuple[Figure, NDArray]:
    """Return a figure of image cells with labels at its left and top, and its axes.

    Args:
        images: rows of pictures: (h, w, 3) uint8, or (h, w) numbers drawn with the heat map's
            colours, or None for an empty cell.
        row_labels: one a row.
        column_labels: one a column.
        cell: side of a cell in inches.
    """
    rows, columns = len(images), max(len(row) for row in images)
    with styled():
        figure = new_figure(0.9 + cell * columns, 0.45 + cell * rows)
        axes = figure.subplots(rows, columns, squeeze=False)
        for i, row in enumerate(images):
            for j in range(columns):
                axis = axes[i, j]
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if j < len(row) and row[j] is not None:
                    axis.imshow(row[j], cmap=SEQUENTIAL, interpolation="nearest")
                if i == 0 and j < len(column_labels):
                    axis.set_title(shorten(column_labels[j], 14), fontsize=7)
                if j == 0:
                    axis.set_ylabel(row_labels[i], rotation=0, ha="right", va="center", fontsize=7)
    return figure, axes


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Save a figure as png (150 dots an inch) and svg, without dates; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with styled():
        figure.savefig(png, dpi=150, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None})
    return png, svg
