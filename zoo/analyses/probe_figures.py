"""The figures of linear probes, drawn from the arrays of their result alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.probed_layers import CLS, MEAN
from zoo.analyses.seed_bands import seed_line, untrained_line
from zoo.figures import style
from zoo.measures.intervals import SHARE, wilson_interval
from zoo.measures.ridge import FEW_SHOT
from zoo.study.axes import select
from zoo.study.results import INITIAL, Result

UNTRAINED: Any = {"linestyle": ":", "linewidth": 1.0}
LEGEND_COLUMNS = 2
NAME = 30  # characters of a model's name in the legend, beside its seeds and its pooling
KINDS = {"accuracy": "pixels_accuracy", "few_shot": "pixels_few_shot_accuracy"}
PIXELS: Any = {"linestyle": "-.", "linewidth": 0.9, "color": "0.25"}


def draw_depth(result: Result, compared: Sequence[str], *, few_shot: int = FEW_SHOT) -> Figure:
    """Draw accuracy against relative depth: one line per model and pooling, with 95 % bands.

    Of several seeds a line is the mean and its band over seeds; of one, the band is over images.
    Beside them, where they are known, raw pixels and the same networks untrained.
    """
    fit, test = (int(result.data.attrs[f"{part}_images"]) for part in ("fit", "test"))
    with style.styled():
        lines = sum(len(_poolings(result, name)) for name in compared)
        # The baselines are two more.
        below = 0.5 + style.LEGEND_ROW * math.ceil((lines + 2) / LEGEND_COLUMNS)
        figure, axes = style.line_panels(2, size=(3.1, 2.1), below=below)
        chance = result.metric("chance") or 0.0
        for axis, kind in zip(axes, KINDS, strict=True):
            for m, name in enumerate(compared):
                _curves_of(axis, result, kind, name, m)
            _draw_baselines(axis, result, kind)
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


def _poolings(result: Result, network: str) -> list[str]:
    accuracy = select(result.data["accuracy"], network).dropna("pooling", how="all")
    return [str(pooling) for pooling in accuracy["pooling"].values]


def _curves_of(axis: Axes, result: Result, kind: str, name: str, place: int) -> None:
    colour = style.colour(place)
    test = int(result.data.attrs["test_images"])
    own = select(result.data[kind], name)
    depth, size = own["depth"].values, style.marker_points(own.sizes["layer"])
    for pooling in _poolings(result, name):
        of_pooling = result.data[kind].sel(pooling=pooling)
        of_images = np.transpose([
            (math.nan, math.nan) if math.isnan(a) else wilson_interval(round(a * test), test)
            for a in own.sel(pooling=pooling).values
        ])  # fmt: skip
        label, accuracy, ends = seed_line(of_pooling, name, of_images, within=SHARE)
        line = style.marker(place) + ("--" if pooling == CLS else "-")
        label = f"{style.shorten(name, NAME)}{label.removeprefix(name)}, {pooling}"
        axis.plot(depth, accuracy, line, color=colour, markersize=size, linewidth=1.2, label=label)
        axis.fill_between(depth, *ends, color=colour, alpha=0.1, linewidth=0)
    if untrained := untrained_line(result.data[kind].sel(pooling=MEAN), name):
        axis.plot(*untrained, color=colour, **UNTRAINED)


def _draw_baselines(axis: Axes, result: Result, kind: str) -> None:
    """Draw the line of raw pixels, and name the untrained networks' lines once for all."""
    if INITIAL in result.data["state"].values:
        axis.plot([], [], color="0.25", label=f"untrained, {MEAN}", **UNTRAINED)
    pixels = result.metric(KINDS[kind])
    if pixels is not None:
        axis.axhline(pixels, label="raw pixels, no network", **PIXELS)


def draw_tokens(result: Result, maps: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Draw the accuracy of each single token of the last block, a map (rows, columns) a model."""
    across = min(4, len(maps))
    down = math.ceil(len(maps) / across)
    chance = result.metric("chance") or 0.0
    with style.styled():
        figure = style.new_figure(min(style.WIDTH, 1.2 + 2.1 * across), 0.3 + 2.1 * down)
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes[len(maps) :]:
            axis.set_axis_off()
        for axis, (name, values) in zip(axes, maps.items(), strict=False):
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
        value = result.metric(what, name)
        if value is not None:
            title.append(f"{words}: {value:.2f}")
    return "\n".join(title)
