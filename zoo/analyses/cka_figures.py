"""Figures of CKA: all networks at a glance, then the layers of each pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from zoo.analyses.image_sets import OTHER
from zoo.figures import style
from zoo.measures.linear_cka import LABEL
from zoo.study.axes import Scale, select
from zoo.study.networks import layer_labels
from zoo.study.results import Result


def draw_pair(result: Result, a: str, b: str) -> Figure:
    """Draw the layers of two networks with themselves and each other; of one, if it is both."""
    panels = [(a, a)] if a == b else [(a, a), (b, b), (a, b)]
    maps = [_layers(select(result.data["cka"], p, q), p, q) for p, q in panels]
    low, high = Scale.of(result.data["cka"]).ends
    return style.heat_maps(maps, colour_label=LABEL, low=low, high=high)


def draw_image_sets(result: Result, a: str, b: str) -> Figure:
    """Draw the layers of two networks with each other, on each set of images."""
    sets = {"first images": select(result.data["cka"], a, b)} | {
        str(name): select(result.data["cka" + OTHER].sel(image_set=name), a, b)
        for name in result.data["image_set"].values
    }
    maps = [
        _layers(part, title=f"{style.shorten(name, 24)}: mean {np.nanmean(part.values):.2f}")
        for name, part in sets.items()
    ]
    low, high = Scale.of(result.data["cka"]).ends
    return style.heat_maps(maps, colour_label=LABEL, low=low, high=high)


def _layers(cka: xr.DataArray, rows: str = "", columns: str = "", title: str = "") -> style.HeatMap:
    """Return a map over layers, with their names, as a panel."""
    names, names_b = (
        layer_labels(cka[f"name{end}"].values, cka[f"role{end}"].values) for end in ("", "_b")
    )
    return style.HeatMap(cka.values, names, names_b, rows, columns, title)


def draw_models(result: Result, compared: Sequence[str]) -> Figure:
    """Draw models by models: the mean over all pairs of layers, and over each layer's best match.

    On the first diagonal stands the mean of pairs of different layers, without heads.
    """
    mean, best = (
        np.array([[result.metric(measure, a, b) for b in compared] for a in compared], float)
        for measure in ("mean_all_pairs", "mean_best_match")
    )  # what was not measured is None, and so NaN
    within = [result.metric("mean_off_diagonal", name) for name in compared]
    np.fill_diagonal(mean, np.array(within, float))
    titles = {
        "mean of all pairs of layers, heads included\n(diagonal: pairs of stem and blocks)": mean,
        "mean of the row's layers, each with\nthe layer of the other that is most like it": best,
    }
    names = list(compared)
    maps = [style.HeatMap(values, names, names, "", "", title) for title, values in titles.items()]
    low, high = Scale.of(result.data["cka"]).ends
    figure = style.heat_maps(maps, colour_label=LABEL, low=low, high=high)
    points = max(4.0, min(8.0, 36 / len(names)))
    for axis, values in zip(figure.axes, titles.values(), strict=False):
        style.write_values(axis, values, points=points)
    return figure
