"""A grid of pictures and maps with names at its left and top, as one image: quick to draw."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from zoo.figures import style

GAP = 7  # pixels between cells
PAD = 6  # pixels from the cells to the texts around them
LINE = 0.12  # inches: a line of small text
LETTER = 0.07  # inches: the room of a letter of the colour bar's name
COARSE = 8  # cells along a side: smoothing so few would draw shapes that were never measured
SMALLEST = 0.3  # inches: a cell that shows anything
FOOT = 7  # points: the text below the grid


@dataclass(frozen=True)
class ImageGrid:
    """A drawn grid; its axes count pixels from the upper left corner.

    `cell` is the height and width of a cell in pixels.
    """

    figure: Figure
    axis: Axes
    cell: tuple[int, int]

    def place(self, row: int, column: int) -> tuple[int, int]:
        """Return x and y of a cell's upper left corner."""
        return column * (self.cell[1] + GAP), row * (self.cell[0] + GAP)


def image_grid(
    images: Sequence[Sequence[NDArray | None]],
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    cell: float = 0.85,
    norm: Normalize | None = None,
    bar_label: str = "",
    ticks: Sequence[float] = (),
    extend: str = "neither",
    foot: str = "",
    column_groups: Sequence[tuple[str, int]] = (),
) -> ImageGrid:
    """Draw a grid of pictures of one shape.

    Args:
        images: rows of pictures: (h, w, 3) uint8, or (h, w) numbers drawn with the heat map's
            colours (NaN is hatched), or None for an empty cell.
        row_labels: one a row.
        column_labels: one a column, of one or more lines; they stand upright where they are
            wider than a cell.
        cell: width of a cell in inches; smaller where the figure would not fit the page.
        norm: the colours of all maps; each has its own range without it.
        bar_label: what the colours of `norm` mean, with a unit where there is one.
        ticks: what stands at the colour bar, instead of what suits its range.
        extend: at which ends the colour bar stands for values beyond it.
        foot: a line or more below the grid.
        column_groups: names of columns that belong together, and how many of them; each has a line
            above its columns' names.
    """
    names = [style.shorten(name, 24) for name in row_labels]
    tops = ["\n".join(style.shorten(n, 18) for n in name.split("\n")) for name in column_labels]
    shape = len(images), max(len(row) for row in images)
    first = next((picture for row in images for picture in row if picture is not None), None)
    ratio = 1.0 if first is None else first.shape[0] / first.shape[1]
    left = LINE + max(map(style.text_width, names), default=0.0)
    right, label = 0.02, ""
    if norm:
        across = min(cell, (style.WIDTH - left) / shape[1])
        label = textwrap.fill(bar_label, max(16, int(across * ratio * shape[0] / LETTER)))
        right = style.BAR_GAP + style.BAR_WIDTH + 0.38 + LINE * (label.count("\n") + 1)
    side = min(cell, max((style.WIDTH - left - right) / shape[1], SMALLEST))
    width = round(side * style.DPI) - GAP
    size = (round(width * ratio), width)
    upright, tall_names = _room_above(tops, width / style.DPI)
    above = 0.12 + tall_names + (1.5 * LINE if column_groups else 0)
    drawn = [n * (s + GAP) - GAP for n, s in zip(shape, size, strict=True)]
    tall, wide = (side / style.DPI for side in drawn)
    foot, below = _fill_foot(foot, wide)
    with style.styled():
        figure = Figure(figsize=(left + wide + right, above + tall + below))
        axis = style.axes_at(figure, (left, below), (wide, tall))
        axis.imshow(
            _compose(images, drawn, size, norm),
            extent=(0, drawn[1], drawn[0], 0), aspect="auto", interpolation="none",
        )  # fmt: skip
        # Plain texts: an axis with ticks takes several times as long to make and to draw.
        axis.set_axis_off()
        grid = ImageGrid(figure, axis, size)
        _name_rows_and_columns(grid, names, tops, upright=upright)
        _name_groups(axis, column_groups, width, PAD + tall_names * style.DPI)
        if foot:
            axis.text(drawn[1] / 2, drawn[0] + PAD, foot, fontsize=FOOT, ha="center", va="top")
        if norm:
            corner = (left + wide + style.BAR_GAP, below)
            colours = ScalarMappable(norm, style.SEQUENTIAL)
            bar = style.colour_bar(figure, colours, corner, tall, label=label, extend=extend)
            bar.ax.yaxis.label.set_fontsize(7)
            bar.ax.tick_params(labelsize=style.LABEL_POINTS)
            if ticks:
                bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
                bar.ax.minorticks_off()
        _hatch_missing(grid, images)
    return grid


def _room_above(names: Sequence[str], cell: float) -> tuple[bool, float]:
    """Return whether names of columns stand upright, and how much room they take, in inches."""
    widest = max((style.text_width(line) for name in names for line in name.split("\n")), default=0)
    if widest > cell:
        return True, widest
    return False, LINE * max((name.count("\n") + 1 for name in names if name), default=0)


def _name_rows_and_columns(
    grid: ImageGrid, rows: Sequence[str], columns: Sequence[str], *, upright: bool
) -> None:
    look: Any = {"fontsize": style.LABEL_POINTS, "rotation_mode": "anchor"}
    height, width = grid.cell
    for i, name in enumerate(rows):
        y = grid.place(i, 0)[1] + height / 2
        grid.axis.text(-PAD, y, name, ha="right", va="center_baseline", **look)
    if upright:
        look |= {"rotation": 90, "ha": "left", "va": "center"}
    else:
        look |= {"ha": "center", "va": "bottom"}
    for j, name in enumerate(columns):
        grid.axis.text(grid.place(0, j)[0] + width / 2, -PAD, name, **look)


def _fill_foot(text: str, wide: float) -> tuple[str, float]:
    """Break the lines below a grid that are wider than it; return them and their height.

    Both sizes are in inches.
    """
    if not text:
        return "", 0.06  # half a letter of the colour bar's lowest mark
    lines: list[str] = []
    for line in text.split("\n"):
        fits = wide / max(style.text_width(line, FOOT), wide)
        lines += textwrap.wrap(line, max(1, int(fits * len(line))))
    return "\n".join(lines), 0.1 + LINE * len(lines)


def _hatch_missing(grid: ImageGrid, images: Sequence[Sequence[NDArray | None]]) -> None:
    for i, row in enumerate(images):
        for j, picture in enumerate(row):
            if picture is not None and not np.isfinite(picture).all():
                height, width = grid.cell
                hatch = Rectangle(grid.place(i, j), width, height, hatch="xxxxx", zorder=0)
                grid.axis.add_patch(hatch).set(facecolor="white", edgecolor="0.55", linewidth=0)


def _name_groups(axis: Axes, groups: Sequence[tuple[str, int]], width: int, above: float) -> None:
    """Draw a line and a name above the names of columns that belong together."""
    first = 0
    for name, count in groups:
        left = first * (width + GAP)
        right = left + count * (width + GAP) - GAP
        first += count
        if name:
            y = -above - PAD / 2
            axis.plot([left, right], [y, y], color="0.4", lw=0.6, clip_on=False)
            axis.text(
                (left + right) / 2, y - PAD / 2, style.shorten(name, 24), ha="center", va="bottom",
                fontsize=style.LABEL_POINTS,
            )  # fmt: skip


def enlarge_map(values: NDArray, height: int, width: int) -> NDArray[np.float32]:
    """Return a map (h, w) at the size of a picture: a coarse one in squares, a fine one smooth."""
    method = Image.Resampling.NEAREST if max(values.shape) <= COARSE else Image.Resampling.BICUBIC
    grown = Image.fromarray(np.asarray(values, dtype=np.float32)).resize((width, height), method)
    # A smooth curve may swing beyond the values that it passes through.
    return np.asarray(grown).clip(np.nanmin(values), np.nanmax(values))


def _compose(
    images: Sequence[Sequence[NDArray | None]],
    shape: Sequence[int],
    size: tuple[int, int],
    norm: Normalize | None,
) -> NDArray[np.uint8]:
    """Return all cells as one picture (height, width, 4), clear where there is nothing."""
    whole = np.zeros((*shape, 4), dtype=np.uint8)
    for i, row in enumerate(images):
        for j, picture in enumerate(row):
            if picture is not None:
                y, x = i * (size[0] + GAP), j * (size[1] + GAP)
                whole[y : y + size[0], x : x + size[1]] = _cell(picture, size, norm)
    return whole


def _cell(picture: NDArray, size: tuple[int, int], norm: Normalize | None) -> NDArray[np.uint8]:
    """Return a picture or a coloured map (h, w, 4) at the size of a cell."""
    if picture.ndim == 2:
        masked = np.ma.masked_invalid(picture)
        picture = mpl.colormaps[style.SEQUENTIAL]((norm or Normalize())(masked), bytes=True)
    large = picture.shape[0] > size[0]
    # Small pixels stay squares.
    method = Image.Resampling.BOX if large else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).convert("RGBA").resize(size[::-1], method))
