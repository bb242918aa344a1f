"""The figure of stitching: accuracy kept, block by block, with what could be kept at all."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from zoo.figures import style
from zoo.study.axes import select
from zoo.study.results import INITIAL, Result

LABEL = "share of its accuracy that B keeps"


def draw_pair(result: Result, a: str, b: str) -> Figure:
    """Draw how much two networks keep on the other's features, on their own, on untrained ones."""
    kept = result.data["kept"]
    panels, across = [], 0
    for source, target in ((a, b), (b, a)):
        untrained = dict.fromkeys(select(kept, model=source, state=INITIAL)["network"].values)
        row = [
            _panel(result, source, target, f"A: {source}\nB: {target}"),
            _panel(result, target, target, f"A = B: {target}\n(what can be kept)"),
            *(_panel(result, name, target, f"A: {source} untrained\nB: {target}")
              for name in untrained),
        ]  # fmt: skip
        row = [panel for panel in row if panel.values.size and np.isfinite(panel.values).any()]
        across = max(across, len(row))
        panels += row
    figure = style.heat_maps(panels, colour_label=LABEL, low=0, high=1, across=across)
    for axis, panel in zip(figure.axes, panels, strict=False):
        style.write_values(axis, panel.values, points=7)
    return figure


def _panel(result: Result, source: str, target: str, title: str) -> style.HeatMap:
    cells = select(result.data["kept"], source, target)
    names = "\n".join(style.shorten(line, 34) for line in title.split("\n"))
    return style.HeatMap(
        cells.values, cells["name"].values, cells["name_b"].values, source, target, names
    )
