"""Figures of robustness: what networks keep under each change, and one image under each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoo.figures import style
from zoo.figures.image_grid import image_grid
from zoo.measures.corruptions import WORDS
from zoo.study.axes import select
from zoo.study.results import Result

AMOUNTS = {
    "random patches": "share of patches dropped",
    "most attended": "share of patches dropped",
    "least attended": "share of patches dropped",
    "shuffled tiles": "tiles along a side",
}
LEGEND_COLUMNS = 3
ALL: Any = {"color": "0.5", "linestyle": ":", "linewidth": 1}  # nothing is lost


def draw_curves(result: Result, names: Sequence[str]) -> Figure:
    """Draw the share of its accuracy that each network keeps: one panel per kind of change."""
    kinds = list(dict.fromkeys(result.data["kind"].values.tolist()))
    with style.styled():
        figure, axes = style.line_panels(
            len(kinds),
            size=(1.98, 1.35),
            above=0.3 + style.LEGEND_ROW * math.ceil((len(names) + 2) / LEGEND_COLUMNS),
        )
        for axis, kind in zip(axes, kinds, strict=True):
            for i, name in enumerate(names):
                of = result.data.sel(network=name)
                kept, ends = (select(of[key], kind=kind) for key in ("kept", "kept_ci"))
                # Unchanged: no patch dropped, one tile, strength 0.
                first = 1.0 if kind == "shuffled tiles" else 0.0
                amounts = np.array([first, *kept["amount"].values])
                low, high = np.array([[1, 1], *ends.values.tolist()]).T
                colour = style.colour(i)
                axis.fill_between(amounts, low, high, color=colour, alpha=0.15, linewidth=0)
                axis.plot(
                    amounts, [1, *kept.values], style.marker(i) + "-", color=colour, markersize=3,
                    linewidth=1, label=f"{name} ({100 * float(of['clean_accuracy']):.0f} % right)",
                )  # fmt: skip
                if clean := float(of["clean_accuracy"]):
                    guessing = float(result.data["chance"]) / clean
                    axis.axhline(guessing, color=colour, linestyle="--", linewidth=0.7)
            axis.set_title(WORDS.get(kind, kind), loc="left")
            axis.set_xlabel(AMOUNTS.get(kind, "strength"))
            axis.set_xticks(amounts)
            axis.axhline(1, **ALL)
        # Once all are drawn: the axis is shared, and the first panel's band may be a low one.
        axes[0].set_ylim(0, None)
        for axis in axes[:: style.PANELS_A_ROW]:
            axis.set_ylabel("accuracy kept")
        guess = Line2D([], [], color="0.4", linestyle="--", linewidth=0.7, label="by guessing")
        unchanged = Line2D([], [], label="as on unchanged images", **ALL)
        handles = [*axes[0].get_legend_handles_labels()[0], unchanged, guess]
        figure.legend(handles=handles, loc="upper center", ncols=LEGEND_COLUMNS)
    return figure


def draw_examples(result: Result) -> Figure:
    """Draw one image under each change: one row per kind, from little to much."""
    data = result.data
    kinds = list(dict.fromkeys(data["kind"].values.tolist()))
    rows = [list(select(data["example"], kind=kind).values) for kind in kinds]
    widest = max(map(len, rows))
    return image_grid(
        [[*row, *[None] * (widest - len(row))] for row in rows],
        row_labels=[WORDS.get(kind, kind) for kind in kinds],
        column_labels=[""] * widest,
        cell=0.75,
        foot="from little (left) to much (right)",
    ).figure
