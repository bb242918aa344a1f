"""Figures of spatial localisation: maps of single tokens, and all models' scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from zoo.analyses.base import Result
from zoo.report import style

LAST, LAST_BUT_ONE = "last_block", "last_but_one_block"


def draw_maps(result: Result, name: str) -> Figure:
    """Draw rows: the last block and the one before it; columns: three tokens."""
    blocks = [which for which in (LAST, LAST_BUT_ONE) if f"{which}/{name}" in result.arrays]
    # One colour range for all models of the comparison, so that figures can be compared.
    tables = [array.values for array in result.arrays.values()]
    high = max(float(table[np.isfinite(table)].max(initial=0.0)) for table in tables)
    with style.styled():
        figure = style.new_figure(style.WIDTH, 0.4 + 2.1 * len(blocks))
        axes = figure.subplots(len(blocks), 3, squeeze=False)
        for row, which in zip(axes, blocks, strict=True):
            cka = result.arrays[f"{which}/{name}"].values
            places = [_row_column(t) for t in result.labels[f"token[{name} {which}]"]]
            bottom, right = _row_column(result.labels[f"patch[{name} {which}]"][-1])
            for axis, (title, token) in zip(row, _chosen(places).items(), strict=True):
                axis.patch.set(facecolor="white", hatch="xxxxx", edgecolor="0.55")
                image = axis.imshow(
                    np.ma.masked_invalid(cka[token].reshape(bottom + 1, right + 1)),
                    cmap=style.SEQUENTIAL, vmin=0, vmax=high or 1, interpolation="nearest",
                )  # fmt: skip
                y, x = places[token]
                axis.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#D55E00", lw=1.5)
                )
                axis.set(xticks=[0, right], yticks=[0, bottom], title=f"{title} token")
            row[0].set_ylabel(f"{result.labels[f'{which}[{name}]'][0]}\npatch row")
        for axis in axes[-1]:
            axis.set_xlabel("patch column")
        figure.colorbar(image, ax=axes, label="CKA with the pixels of a patch", aspect=30)
    return figure


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
        figure = style.new_figure(height=0.9 + 0.45 * len(result.models))
        axis = figure.subplots()
        for i, name in enumerate(result.models):
            for j, which in enumerate((LAST, LAST_BUT_ONE)):
                score = result.metrics.get(f"localisation/{name}/score_{which}", math.nan)
                y = i + (j - 0.5) * 0.36
                axis.barh(y, score, 0.34, color=style.COLOURS[j], label=which.replace("_", " "))
            chance = result.metrics.get(f"localisation/{name}/chance", math.nan)
            axis.plot([chance] * 2, [i - 0.4, i + 0.4], color="k", lw=1.2, label="chance")
        axis.set_yticks(range(len(result.models)), result.models)
        axis.set_ylim(len(result.models) - 0.4, -0.6)
        axis.set(xlim=(0, 1), xlabel="share of tokens that are most like their own patch")
        once = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(once.values(), once.keys(), loc="outside upper center", ncols=3)
    return figure
