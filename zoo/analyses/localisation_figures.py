"""Figures of spatial localisation: maps of single tokens, and all models' scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from zoo.figures import style
from zoo.figures.image_grid import image_grid
from zoo.study.results import Part, Result

LAST, LAST_BUT_ONE = "last_block", "last_but_one_block"
SHADES = {LAST: 1.0, LAST_BUT_ONE: 0.45}  # of a model's colour


def draw_maps(blocks: Sequence[Part], high: float) -> Figure:
    """Draw rows: the last block and the one before it; columns: three tokens.

    Args:
        blocks: what was found of a model's blocks, the last one first.
        high: the CKA of the brightest colour.
    """
    cells: list[list[NDArray]] = []
    places: list[list[tuple[int, int]]] = []
    for block in blocks:
        cka = block.data["cka"]
        at = list(zip(cka["token_row"].values, cka["token_column"].values, strict=True))
        chosen = _chosen([(int(y), int(x)) for y, x in at])
        cells.append([cka.values[token] for token in chosen.values()])
        places.append([at[token] for token in chosen.values()])
    height, width = cells[-1][0].shape
    grid = image_grid(
        cells,
        row_labels=[block.layer for block in blocks],
        column_labels=[f"{which} token" for which in chosen],
        cell=1.6,
        norm=Normalize(0, high or 1),
        bar_label="CKA with the pixels of a patch",
        foot=f"each map: the {width} × {height} patches of the image; outlined: the token's own",
    )
    patch = grid.cell[1] / width, grid.cell[0] / height
    for i, row in enumerate(places):
        for j, (y, x) in enumerate(row):
            left, top = grid.place(i, j)
            corner = left + x * patch[0], top + y * patch[1]
            grid.axis.add_patch(
                Rectangle(corner, *patch, fill=False, edgecolor=style.COLOURS[1], lw=1.5)
            )
    return grid.figure


def _chosen(places: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Choose a corner, an edge and a centre token."""
    rows, columns = (sorted(set(axis)) for axis in zip(*places, strict=True))
    y, x = rows[len(rows) // 2], columns[len(columns) // 2]
    return {
        name: places.index(at)
        for name, at in (("corner", (0, 0)), ("edge", (0, x)), ("centre", (y, x)))
    }


def draw_scores(result: Result, compared: Sequence[str]) -> Figure:
    """Draw every model's score for both blocks, and what chance would give."""
    with style.styled():
        names = [style.shorten(name, 30) for name in compared]
        left = 0.12 + max(style.text_width(name, 7) for name in names)
        size = (style.WIDTH - left - 0.15, 0.45 * len(names))
        blocks = {(part.network, part.data.attrs["which"]): part.layer for part in result.parts}
        figure, (axis,) = style.line_panels(size=size, left=left, right=0.15, above=0.3)
        for i, name in enumerate(compared):
            chance = result.metric("chance", name) or math.nan
            beside = 0.008 + (0.0 if math.isnan(chance) else chance)  # its line crosses no name
            for j, which in enumerate((LAST, LAST_BUT_ONE)):
                score = result.metric(f"score_{which}", name)
                y = i + (j - 0.5) * 0.36
                colour = to_rgba(style.colour(i), SHADES[which])
                axis.barh(y, math.nan if score is None else score, 0.34, color=colour)
                axis.text(
                    beside, y, style.shorten(blocks.get((name, which), "")),
                    va="center", fontsize=style.LABEL_POINTS,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                )  # fmt: skip
            axis.plot([chance] * 2, [i - 0.4, i + 0.4], color="k", lw=1.2, label="chance")
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(compared) - 0.4, -0.6)
        axis.set(xlim=(0, 1), xlabel="share of tokens that are most like their own patch")
        handles: list[Artist] = [axis.lines[0]]
        handles += [
            Patch(color=to_rgba("0.2", v), label=k.replace("_", " ")) for k, v in SHADES.items()
        ]
        figure.legend(handles=handles, loc="upper center", ncols=3)
    return figure
