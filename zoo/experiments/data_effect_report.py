"""How the effect of data is shown: a table of its curves, and a figure of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoo.analyses.same_layer_cka import Line, draw_lines
from zoo.experiments.data_effect import NO_TRAINING, SEEDS, SUBSET, Curve
from zoo.figures import style
from zoo.files import csv_text
from zoo.measures.linear_cka import LABEL

PALEST = 0.4  # of a model's colour: the line of its fewest images


def as_csv(curves: Sequence[Curve]) -> str:
    """Return one line per layer of each curve; empty where a value is missing, with the reason."""
    before, numbers = ("model", "subset", "role", "images"), ("cka", "low", "high")
    after = ("band", "pairs", "same_start")
    return csv_text(
        [
            {key: getattr(curve, key) for key in before}
            | {"layer": layer, "position": i}
            | {key: getattr(curve, key)[i] for key in numbers}
            | {key: getattr(curve, key) for key in after}
            | {"note": curve.notes[i]}
            for curve in curves
            for i, layer in enumerate(curve.layers)
        ]
    )


def draw(curves: Sequence[Curve], *, title: str) -> Figure:
    """Draw CKA with the network trained on all data, layer by layer: one panel per architecture.

    A panel has its model's colour, in a darker shade the more images.
    """
    models = list(dict.fromkeys(curve.model for curve in curves))
    across = min(2, len(models))
    down = -(-len(models) // across)
    with style.styled():
        figure = style.new_figure(0.8 + 3.1 * across, 0.8 + 2.5 * down)
        axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axis in axes[len(models) :]:
            axis.set_axis_off()
        entries: dict[str, Line2D] = {}
        for i, (axis, model) in enumerate(zip(axes, models, strict=False)):
            own = [curve for curve in curves if curve.model == model]
            colour = style.COLOURS[i % len(style.COLOURS)]
            draw_lines(axis, own[0].layers, _lines(own, colour), most=24)
            axis.set_title(model, loc="left")
            # The legend is of all panels.
            for line in _lines(own, "black"):
                look: Any = {"color": line.colour, "linestyle": line.line}
                entries.setdefault(line.label, Line2D([], [], **look))
        for row in range(down):
            axes[row * across].set_ylabel(f"{LABEL}\nwith the network trained on all data")
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=3,
            title=_legend_title(curves), title_fontsize=7,
        )  # fmt: skip
    return figure


def _lines(curves: Sequence[Curve], model_colour: str) -> list[Line]:
    subsets = [curve for curve in curves if curve.role == SUBSET]
    depths = np.linspace(1, PALEST, len(subsets))[::-1]  # a single one has the colour itself
    looks = {SEEDS: ("all data, another seed", "0.2", "--"),
             NO_TRAINING: ("untrained", "0.5", ":")}  # fmt: skip
    lines = []
    for curve in curves:
        if curve.role == SUBSET:
            colour = _shade(model_colour, depths[subsets.index(curve)])
            label, line = f"{curve.subset}: {curve.images:,} images", "-"
        else:
            label, colour, line = looks[curve.role]
        lines.append(Line(label, colour, line, curve.cka, curve.low, curve.high))
    return lines


def _shade(colour: str, depth: float) -> str:
    """Return a colour mixed with white, of which it is the share `depth`."""
    red, green, blue = (1 - depth * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def _legend_title(curves: Sequence[Curve]) -> str:
    bands = sorted({curve.band for curve in curves} - {"none"})
    said = [f"bands: {', '.join(bands)}"] if bands else []
    if any(curve.same_start for curve in curves):
        said.append("one seed: all networks of a panel start from the same weights")
    return "; ".join(said)
