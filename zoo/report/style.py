"""One look for every figure: sizes, colours, and the few kinds of panels that are shared.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; heat maps use viridis,
which is even in lightness. Every figure fits the width of a printed page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SEQUENTIAL = "viridis"
WIDTH = 7.0  # inches: the width of a printed page's text

LABEL_POINTS = 6.0  # layer names are many, so they are the smallest text
LABEL_PITCH = 0.115  # inches from one such label to the next
PANELS_A_ROW = 3
LARGEST_PANEL = 3.6  # inches
PANEL_GAP = 0.12
BAR_GAP, BAR_WIDTH, BAR_LABELS = 0.14, 0.1, 0.48  # inches, from the panels to the right edge
TITLE_HEIGHT = 0.31
TICK_ROOM = 0.1  # from a panel's edge to its labels

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
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


def heat_maps(panels: Sequence[HeatMap], *, colour_label: str, low: float, high: float) -> Figure:
    """Draw matrices on one colour scale, side by side, three to a row.

    Args:
        panels: one or more matrices; the two titles of each say what its rows and columns are.
        colour_label: the measure, with its unit where it has one.
        low: value of the darkest colour.
        high: value of the brightest colour.
    """
    across = min(len(panels), PANELS_A_ROW)
    down = math.ceil(len(panels) / across)
    # Fewer panels have more room for each name.
    length = {1: 24, 2: 18}.get(across, 13)
    most = int(min(LARGEST_PANEL, WIDTH / across - 0.9) / LABEL_PITCH)
    left = TICK_ROOM + max(_widest(panel.rows, most, length) for panel in panels)
    below = TICK_ROOM + max(_widest(panel.columns, most, length) for panel in panels)
    bar = BAR_GAP + BAR_WIDTH + BAR_LABELS
    side = min((WIDTH - bar - PANEL_GAP * (across - 1)) / across - left, LARGEST_PANEL)
    pitch = (left + side + PANEL_GAP, TITLE_HEIGHT + side + below)
    with styled():
        figure = new_figure(across * pitch[0] - PANEL_GAP + bar, down * pitch[1] + 0.02)
        figure.set_layout_engine("none")
        for i, panel in enumerate(panels):
            row, column = divmod(i, across)
            corner = (column * pitch[0] + left, (down - 1 - row) * pitch[1] + below)
            axis = _axes_at(figure, corner, (side, side))
            image = _draw_matrix(axis, panel, low, high, length=length, most=most)
            _name_axes(axis, panel, left, side)
        corner = (across * pitch[0] - PANEL_GAP + BAR_GAP, below)
        axis = _axes_at(figure, corner, (BAR_WIDTH, (down - 1) * pitch[1] + side))
        figure.colorbar(image, cax=axis, label=colour_label)
        axis.tick_params(length=2, width=0.5)
        axis.spines[:].set_linewidth(0.5)
    return figure


def _name_axes(axis: Axes, panel: HeatMap, left: float, side: float) -> None:
    """Write above a panel what its rows and columns are; over its labels too if need be."""
    points = 7
    room = int((left + side) / text_width("n", points)) - len("columns: ")
    title = f"rows: {shorten(panel.row_title, room)}\ncolumns: {shorten(panel.column_title, room)}"
    fits = max(text_width(line, points) for line in title.split("\n")) <= side
    axis.set_title(
        title, fontsize=points, loc="left", x=0 if fits else -left / side, pad=4, linespacing=1.25
    )


def _axes_at(figure: Figure, corner: tuple[float, float], size: tuple[float, float]) -> Axes:
    """Add axes by their lower left corner and size in inches."""
    width, height = figure.get_size_inches()
    x, y = corner
    return figure.add_axes((x / width, y / height, size[0] / width, size[1] / height))


def heat_map(axis: Axes, panel: HeatMap, *, low: float, high: float) -> mpl.image.AxesImage:
    """Draw one matrix: first layers at the bottom left, as in the papers."""
    figure, box = axis.get_figure(root=True), axis.get_position()
    width, height = figure.get_size_inches() if figure else (WIDTH, WIDTH)
    most = max(2, int(min(box.width * width, box.height * height) / LABEL_PITCH))
    axis.set_xlabel(panel.column_title)
    axis.set_ylabel(panel.row_title)
    return _draw_matrix(axis, panel, low, high, length=22, most=most)


def _draw_matrix(
    axis: Axes, panel: HeatMap, low: float, high: float, *, length: int, most: int
) -> mpl.image.AxesImage:
    values = np.ma.masked_invalid(panel.values)
    axis.patch.set(facecolor="white", hatch="xxxxx", edgecolor="0.55")
    image = axis.imshow(
        values, origin="lower", cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    for names, put in ((panel.columns, axis.set_xticks), (panel.rows, axis.set_yticks)):
        positions, shown = choose_labels(names, most)
        put(positions, [shorten(name, length) for name in shown])
    axis.tick_params(labelsize=LABEL_POINTS, length=2, width=0.5, pad=2)
    axis.tick_params(axis="x", rotation=90)
    axis.spines[:].set(visible=True, linewidth=0.5)
    axis.set_box_aspect(1)
    return image


def choose_labels(names: Sequence[str], most: int) -> tuple[list[int], list[str]]:
    """Choose which of many names to print along an axis, so that they do not overlap.

    Where not all fit, the first name of every block (`blocks.3`, `layer2.0`) stands for it, and
    of these only those that are far enough apart.

    Args:
        names: all names along the axis, in order.
        most: how many fit.

    Returns:
        Positions along the axis, and the text at each.

    >>> choose_labels(["stem", "blocks.0.norm", "blocks.0.mlp", "blocks.1.norm", "head"], 3)
    ([0, 3], ['stem', 'blocks.1'])
    """
    if len(names) <= most:
        return list(range(len(names))), list(names)
    blocks = [".".join(name.split(".")[:2]) for name in names]
    starts = [0] + [i for i, (a, b) in enumerate(pairwise(blocks), 1) if a != b]
    apart = len(names) / most
    chosen: list[int] = []
    for i in starts:
        if not chosen or i - chosen[-1] >= apart:
            chosen.append(i)
    return chosen, [blocks[i] for i in chosen]


def _widest(names: Sequence[str], most: int, length: int) -> float:
    """Return the width in inches of the widest of the names that are printed."""
    shown = choose_labels(names, most)[1]
    return max((text_width(shorten(name, length)) for name in shown), default=0.0)


def text_width(text: str, points: float = LABEL_POINTS) -> float:
    """Return the width of a text in inches."""
    if not text.strip():
        return 0.0
    drawn = TextPath((0, 0), text, size=points, prop=FontProperties())
    # On a screen, letters are rounded up to whole dots.
    return float(drawn.get_extents().x1) / 72 * 1.06


def shorten(name: str, length: int = 22) -> str:
    """Cut a layer's name in the middle where it is too long to print; its block is kept.

    >>> shorten("blocks.11.attn.proj", 15)
    'blocks.11….proj'
    >>> shorten("features.denseblock1.denselayer12.conv1", 16)
    'features…2.conv1'
    """
    if len(name) <= length:
        return name
    head = (length - 1) // 2 + (length - 1) % 2
    block = len(".".join(name.split(".")[:2]))
    if head < block <= length - 4:
        head = block
    return f"{name[:head]}…{name[-(length - 1 - head) :]}"


def image_grid(
    images: Sequence[Sequence[NDArray | None]],
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
        column_labels: one a column; they stand upright where they are wider than a cell.
        cell: width of a cell in inches; smaller where the figure would not fit the page.
    """
    rows, columns = len(images), max(len(row) for row in images)
    first = next((picture for row in images for picture in row if picture is not None), None)
    ratio = 1.0 if first is None else first.shape[0] / first.shape[1]
    names, tops = [shorten(n, 16) for n in row_labels], [shorten(n, 18) for n in column_labels]
    left = 0.12 + max(map(text_width, names), default=0.0)
    cell = min(cell, max((WIDTH - left) / columns, 0.3))
    widest = max(map(text_width, tops), default=0.0)
    upright = widest > cell - 0.04
    top = 0.1 + (widest if upright else 0.08)
    with styled():
        figure = new_figure(left + cell * columns, top + cell * ratio * rows)
        figure.set_layout_engine(
            ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.015, wspace=0, hspace=0)
        )
        axes = figure.subplots(rows, columns, squeeze=False)
        for i, row in enumerate(images):
            for j in range(columns):
                axis = axes[i, j]
                if j:  # cells without labels of their own are quicker to lay out
                    axis.set_axis_off()
                else:
                    axis.set(xticks=[], yticks=[])
                    axis.spines[:].set_visible(False)
                if j < len(row) and row[j] is not None:
                    axis.imshow(row[j], cmap=SEQUENTIAL, interpolation="nearest")
                if i == 0 and j < len(tops):
                    axis.set_title(tops[j], fontsize=LABEL_POINTS, rotation=90 * upright, pad=3)
        for axis, name in zip(axes[:, 0], names, strict=False):
            axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=LABEL_POINTS)
    return figure, axes


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Save a figure as png (150 dots an inch) and svg, without dates; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with styled():
        figure.savefig(png, dpi=150, metadata={"Software": None})
        # What is laid out stays so: laying out many panels takes longer than drawing them.
        figure.set_layout_engine("none")
        figure.savefig(svg, metadata={"Date": None})
    return png, svg
