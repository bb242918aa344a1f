"""Figures of spatial localisation: maps of single tokens, and all models' scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from zoo.figures import style
from zoo.figures.image_grid import image_grid
from zoo.study.results import Result

LAST, LAST_BUT_ONE = "last_block", "last_but_one_block"
SHADES = {LAST: 1.0, LAST_BUT_ONE: 0.45}  # of a model's colour


def draw_maps(result: Result, name: str) -> Figure:
    """Draw rows: the last block and the one before it; columns: three tokens."""
    blocks = [which for which in (LAST, LAST_BUT_ONE) if f"{which}/{name}" in result.arrays]
    # One colour range for all models of the comparison, so that figures can be compared.
    tables = [array.values for array in result.arrays.values()]
    high = max(float(table[np.isfinite(table)].max(initial=0.0)) for table in tables)
    cells: list[list[NDArray]] = []
    places: list[list[tuple[int, int]]] = []
    for which in blocks:
        cka = result.arrays[f"{which}/{name}"].values
        at = [_row_column(token) for token in result.labels[f"token[{name} {which}]"]]
        bottom, right = _row_column(result.labels[f"patch[{name} {which}]"][-1])
        chosen = _chosen(at)
        cells.append([cka[token].reshape(bottom + 1, right + 1) for token in chosen.values()])
        places.append([at[token] for token in chosen.values()])
    grid = image_grid(
        cells,
        row_labels=[result.labels[f"{which}[{name}]"][0] for which in blocks],
        column_labels=[f"{which} token" for which in chosen],
        cell=1.6,
        norm=Normalize(0, high or 1),
        bar_label="CKA with the pixels of a patch",
        foot=f"each map: the {right + 1} × {bottom + 1} patches of the image; "
        "outlined: the token's own",
    )
    patch = grid.cell[1] / (right + 1), grid.cell[0] / (bottom + 1)
    for i, row in enumerate(places):
        for j, (y, x) in enumerate(row):
            left, top = grid.place(i, j)
            corner = left + x * patch[0], top + y * patch[1]
            grid.axis.add_patch(
                Rectangle(corner, *patch, fill=False, edgecolor=style.COLOURS[1], lw=1.5)
            )
    return grid.figure


def _row_column(name: str) -> tuple[int, int]:
    y, x = name.split(",")
    return int(y), int(x)


def _chosen(places: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Choose a corner, an edge and a centre token."""
    rows, columns = (sorted(set(axis)) for axis in zip(*places, strict=True))
    y, x = rows[len(rows) // 2], columns[len(columns) // 2]
    return {
        name: places.index(at)
        for name, at in (("corner", (0, 0)), ("edge", (0, x)), ("centre", (y, x)))
    }


def draw_scores(result: Result) -> Figure:
    """Draw every model's score for both blocks, and what chance would give."""
    with style.styled():
        names = [style.shorten(name, 30) for name in result.models]
        left = 0.12 + max(style.text_width(name, 7) for name in names)
        size = (style.WIDTH - left - 0.15, 0.45 * len(names))
        figure, (axis,) = style.line_panels(size=size, left=left, right=0.15, above=0.3)
        for i, name in enumerate(result.models):
            for j, which in enumerate((LAST, LAST_BUT_ONE)):
                score = result.metrics.get(f"localisation/{name}/score_{which}", math.nan)
                y = i + (j - 0.5) * 0.36
                colour = to_rgba(style.COLOURS[i % len(style.COLOURS)], SHADES[which])
                axis.barh(y, score, 0.34, color=colour)
                block = result.labels.get(f"{which}[{name}]", ("",))[0]
                axis.text(
                    0.005, y, style.shorten(block), va="center", fontsize=style.LABEL_POINTS,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                )  # fmt: skip
            chance = result.metrics.get(f"localisation/{name}/chance", math.nan)
            axis.plot([chance] * 2, [i - 0.4, i + 0.4], color="k", lw=1.2, label="chance")
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(result.models) - 0.4, -0.6)
        axis.set(xlim=(0, 1), xlabel="share of tokens that are most like their own patch")
        handles: list[Artist] = [axis.lines[0]]
        handles += [
            Patch(color=to_rgba("0.2", v), label=k.replace("_", " ")) for k, v in SHADES.items()
        ]
        figure.legend(handles=handles, loc="upper center", ncols=3)
    return figure
