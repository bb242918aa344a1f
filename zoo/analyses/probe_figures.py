"""The figures of linear probes, drawn from the arrays of their result alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.figures import style
from zoo.measures.intervals import wilson_interval
from zoo.measures.ridge import FEW_SHOT
from zoo.study.results import Result

UNTRAINED: Any = {"linestyle": ":", "linewidth": 1.0}
LEGEND_COLUMNS = 2
PIXELS: Any = {"linestyle": "-.", "linewidth": 0.9, "color": "0.25"}


def draw_depth(result: Result, *, few_shot: int = FEW_SHOT) -> Figure:
    """Draw accuracy against relative depth: a line a model and pooling, with 95 % bands.

    Beside them, where they are known, raw pixels and the same networks untrained.
    """
    fit, test = (int(n) for n in result.arrays["images"].values)
    with style.styled():
        lines = sum(len(result.labels[f"pooling[{name}]"]) for name in result.models)
        # The baselines are two more.
        below = 0.5 + style.LEGEND_ROW * math.ceil((lines + 2) / LEGEND_COLUMNS)
        figure, axes = style.line_panels(2, size=(3.1, 2.1), below=below)
        chance = float(result.arrays["chance"].values)
        for place, (axis, kind) in enumerate(zip(axes, ("all", "few"), strict=True)):
            for m, name in enumerate(result.models):
                _curves_of(axis, result, kind, name, style.COLOURS[m % len(style.COLOURS)])
            _draw_baselines(axis, result, place)
            axis.axhline(chance, color="0.6", lw=0.7)
            axis.set(xlabel=style.DEPTH, ylim=(0, 1.02))
        axes[0].set_ylabel(f"accuracy on {test:,} images")
        axes[0].set_title(f"fitted on {fit:,} images", loc="left")
        axes[1].set_title(f"few-shot: at most {few_shot} images a class", loc="left")
        axes[0].annotate(
            "most common class", (1, chance), (0, 2),
            textcoords="offset points", ha="right", fontsize=6, color="0.4",
        )  # fmt: skip
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=LEGEND_COLUMNS)
    return figure


def _curves_of(axis: Axes, result: Result, kind: str, name: str, colour: str) -> None:
    test = int(result.arrays["images"].values[1])
    depth = result.arrays[f"depth/{name}"].values
    for j, pooling in enumerate(result.labels[f"pooling[{name}]"]):
        accuracy = result.arrays[f"{kind}/{name}"].values[:, j]
        ends = [
            (math.nan, math.nan) if math.isnan(a) else wilson_interval(round(a * test), test)
            for a in accuracy
        ]
        line = "s--" if pooling == "class token" else "o-"
        label = f"{style.shorten(name, 24)}, {pooling}"
        size = style.marker_points(len(depth))
        axis.plot(depth, accuracy, line, color=colour, markersize=size, linewidth=1.2, label=label)
        axis.fill_between(depth, *np.transpose(ends), color=colour, alpha=0.1, linewidth=0)
    if untrained := result.arrays.get(f"untrained_{kind}/{name}"):
        axis.plot(depth, untrained.values, color=colour, **UNTRAINED)


def _draw_baselines(axis: Axes, result: Result, place: int) -> None:
    """Draw the line of raw pixels, and name the untrained networks' lines once for all."""
    if any(name.startswith("untrained_") for name in result.arrays):
        label = f"untrained, {result.labels[f'pooling[{result.models[0]}]'][-1]}"
        axis.plot([], [], color="0.25", label=label, **UNTRAINED)
    if pixels := result.arrays.get("pixels"):
        axis.axhline(pixels.values[place], label="raw pixels, no network", **PIXELS)


def draw_tokens(result: Result, names: list[str]) -> Figure:
    """Draw the accuracy of each single token of the last block, a map a model."""
    across = min(4, len(names))
    down = math.ceil(len(names) / across)
    chance = float(result.arrays["chance"].values)
    with style.styled():
        figure = style.new_figure(min(style.WIDTH, 1.2 + 2.1 * across), 0.3 + 2.1 * down)
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes[len(names) :]:
            axis.set_axis_off()
        for axis, name in zip(axes, names, strict=False):
            values = result.arrays[f"tokens/{name}"].values
            panel = style.HeatMap(values[::-1], [], [], "", "")
            image = style.heat_map(axis, panel, low=chance, high=1.0)
            axis.set(xticks=[], yticks=[])
            axis.set_title(_token_title(result, name), loc="left", fontsize=7)
        figure.colorbar(
            image,
            ax=list(axes),
            label="accuracy of one token\n(darkest: the most common class)",
            extend="min",
        )
    return figure


def _token_title(result: Result, name: str) -> str:
    title = [style.shorten(name, 24)]
    for what, words in (("single_token_last_mean", "tokens"), ("cls_last_accuracy", "class token")):
        value = result.metrics.get(f"probes/{name}/{what}")
        if value is not None:
            title.append(f"{words}: {value:.2f}")
    return "\n".join(title)
