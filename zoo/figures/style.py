"""One look for every figure: sizes, colours, and the few kinds of panels that are shared.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; heat maps use viridis,
which is even in lightness. Every figure fits the width of a printed page.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.figures.labels import (
    LABEL_PITCH,
    LABEL_POINTS,
    choose_labels,
    shorten,
    text_width,
    widest_label,
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^v"
# Where a figure is of families, or of one network: as a ViT and a CNN beside each other have them.
FAMILY_COLOURS = dict(zip(("vit", "cnn", "mlp", "windowed", "other"), COLOURS, strict=False))
SEQUENTIAL = "viridis"
WIDTH = 7.0  # inches: the width of a printed page's text
DPI = 150  # of saved png files

PANELS_A_ROW = 3
LARGEST_PANEL = 3.6  # inches
PANEL_GAP = 0.12
BAR_GAP, BAR_WIDTH, BAR_LABELS = 0.14, 0.1, 0.48  # inches, from the panels to the right edge
TITLE_HEIGHT = 0.31
MOST_MARKERS = 40  # along the width of a panel
LEGEND_ROW = 0.15  # inches
TICK_ROOM = 0.1  # from a panel's edge to its labels
# A network without blocks ends with its last layer.
DEPTH = "relative depth (1: last block or layer)"

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titley": 1.0,  # else matplotlib looks at every draw for marks to keep clear of
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
    "text.hinting": "none",  # glyphs keep their shapes at 150 dots an inch, and are drawn sooner
    # A class may be named `$5 off`.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class HeatMap:
    """A matrix with names along both sides; NaN cells are drawn hatched.

    `title` stands above it, instead of what its rows and columns are.
    """

    values: NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]
    row_title: str
    column_title: str
    title: str = ""


_ONE_THREAD = threading.RLock()


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style, and only for as long as the context lasts: to one thread after another.

    matplotlib's settings are the process's. Of two threads, the one that began later would bring
    the style back when the first has ended.
    """
    with _ONE_THREAD, mpl.rc_context(STYLE):
        yield


def new_figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """Return an empty figure in inches; it is not known to pyplot and needs no closing."""
    return Figure(figsize=(width, height), layout="constrained")


def line_panels(
    count: int = 1,
    *,
    size: tuple[float, float],
    left: float = 0.55,
    right: float = 0.1,
    above: float = 0.25,
    below: float = 0.42,
    gap: tuple[float, float] = (0.15, 0.67),
    sharey: bool = True,
) -> tuple[Figure, list[Axes]]:
    """Place panels of one size in a new figure, row by row; quicker than to have them laid out.

    Args:
        count: of panels.
        size: width and height of a panel in inches.
        left: inches for the names and labels at the left.
        right: inches at the right edge.
        above: inches for the titles of the first row, and a legend over them.
        below: inches for the names and labels below the last row, and a legend under them.
        gap: inches between panels, from left to right and from top to bottom.
        sharey: whether all panels have one vertical axis, with labels at the left only.
    """
    across = min(count, PANELS_A_ROW)
    down = math.ceil(count / across)
    pitch = (size[0] + gap[0], size[1] + gap[1])
    wide, tall = across * pitch[0] - gap[0], down * pitch[1] - gap[1]
    figure = Figure(figsize=(left + wide + right, below + tall + above))
    axes: list[Axes] = []
    for i in range(count):
        row, column = divmod(i, across)
        corner = (left + column * pitch[0], below + (down - 1 - row) * pitch[1])
        axis = axes_at(figure, corner, size, sharey=axes[0] if sharey and axes else None)
        axis.tick_params(labelleft=not sharey or column == 0)
        axes.append(axis)
    return figure, axes


def heat_maps(
    panels: Sequence[HeatMap],
    *,
    colour_label: str,
    low: float,
    high: float,
    across: int = PANELS_A_ROW,
) -> Figure:
    """Draw matrices on one colour scale, side by side.

    Args:
        panels: one or more matrices; the two titles of each say what its rows and columns are.
        colour_label: the measure, with its unit where it has one.
        low: value of the darkest colour.
        high: value of the brightest colour.
        across: panels in a row.
    """
    across = min(len(panels), across)
    down = math.ceil(len(panels) / across)
    # Fewer panels have more room for each name.
    length = {1: 24, 2: 18}.get(across, 13)
    room = min(LARGEST_PANEL, WIDTH / across - 0.9)
    left = TICK_ROOM + max(widest_label(panel.rows, room, length) for panel in panels)
    below = TICK_ROOM + max(widest_label(panel.columns, room, length) for panel in panels)
    bar = BAR_GAP + BAR_WIDTH + BAR_LABELS
    side = min((WIDTH - bar - PANEL_GAP * (across - 1)) / across - left, LARGEST_PANEL)
    pitch = (left + side + PANEL_GAP, TITLE_HEIGHT + side + below)
    with styled():
        size = across * pitch[0] - PANEL_GAP + bar, down * pitch[1] + 0.02
        figure = Figure(figsize=size)
        for i, panel in enumerate(panels):
            row, column = divmod(i, across)
            corner = (column * pitch[0] + left, (down - 1 - row) * pitch[1] + below)
            axis = axes_at(figure, corner, (side, side))
            image = _draw_matrix(
                axis, panel, low, high, length=length, most=int(room / LABEL_PITCH)
            )
            _name_axes(axis, panel, left, side)
        corner = (across * pitch[0] - PANEL_GAP + BAR_GAP, below)
        colour_bar(figure, image, corner, (down - 1) * pitch[1] + side, label=colour_label)
    return figure


def write_values(axis: Axes, values: NDArray[np.float64], *, points: float) -> None:
    """Write the numbers of a heat map from 0 to 1 into its cells."""
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "black" if value > 0.6 else "white"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=points, color=ink)


def colour_bar(
    figure: Figure,
    image: ScalarMappable,
    corner: tuple[float, float],
    height: float,
    *,
    label: str,
    extend: str = "neither",
) -> Colorbar:
    """Draw an upright colour bar by its lower left corner and its height in inches."""
    axis = axes_at(figure, corner, (BAR_WIDTH, height))
    bar = figure.colorbar(image, cax=axis, label=label, extend=extend)
    axis.tick_params(length=2, width=0.5)
    axis.spines[:].set_linewidth(0.5)
    return bar


def _name_axes(axis: Axes, panel: HeatMap, left: float, side: float) -> None:
    """Write above a panel what its rows and columns are; over its labels too if need be."""
    points = 7
    room = int((left + side) / text_width("n", points)) - len("columns: ")
    titles = [shorten(title, room) for title in (panel.row_title, panel.column_title)]
    title = panel.title or f"rows: {titles[0]}\ncolumns: {titles[1]}"
    fits = max(text_width(line, points) for line in title.split("\n")) <= side
    axis.set_title(
        title, fontsize=points, loc="left", x=0 if fits else -left / side, pad=4, linespacing=1.25
    )


def axes_at(
    figure: Figure,
    corner: tuple[float, float],
    size: tuple[float, float],
    *,
    sharey: Axes | None = None,
) -> Axes:
    """Add axes by their lower left corner and size in inches."""
    width, height = figure.get_size_inches()
    x, y = corner
    box = (x / width, y / height, size[0] / width, size[1] / height)
    return figure.add_axes(box, sharey=sharey)


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
        interpolation="none",  # cells stay sharp at any size
    )  # fmt: skip
    for names, put in ((panel.columns, axis.set_xticks), (panel.rows, axis.set_yticks)):
        positions, shown = choose_labels(names, most)
        put(positions, [shorten(name, length) for name in shown])
    axis.tick_params(labelsize=LABEL_POINTS, length=2, width=0.5, pad=2)
    axis.tick_params(axis="x", rotation=90)
    axis.spines[:].set(visible=True, linewidth=0.5)
    axis.set_box_aspect(1)
    return image


def colour(place: int) -> str:
    """Return the colour of a model by its place among the compared ones."""
    return COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    """Return the marker of a model by its place: it is told apart without colours, too."""
    return MARKERS[place % len(MARKERS)]


def marker_points(count: int) -> float:
    """Return the size of a line's markers; none where so many would hide the line."""
    return 3.0 if count <= MOST_MARKERS else 0.0
