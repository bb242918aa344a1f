"""Figures of CKA: all networks at a glance, then the layers of each pair."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

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

    On the diagonal, a model's stem and blocks are compared, none of them with itself; elsewhere
    all layers, heads too.
    """
    mean, best = summary_matrices(result, compared)
    titles = {
        "mean of all pairs of layers, heads included\n(diagonal: pairs of stem and blocks)": mean,
        "mean of the row's layers, each with\nthe column's layer that it is most like": best,
    }
    names = list(compared)
    maps = [style.HeatMap(values, names, names, "", "", title) for title, values in titles.items()]
    low, high = Scale.of(result.data["cka"]).ends
    figure = style.heat_maps(maps, colour_label=LABEL, low=low, high=high)
    points = max(4.0, min(8.0, 36 / len(names)))
    for axis, values in zip(figure.axes, titles.values(), strict=False):
        style.write_values(axis, values, points=points)
    return figure


def summary_matrices(
    result: Result, compared: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (models, models) mean CKA of all pairs of layers, and of each row's best matches.

    On the diagonal, these are pairs of different layers among stem and blocks, as in the metric
    `mean_off_diagonal`; of a network without blocks, among all layers.
    """
    mean, best = np.full((2, len(compared), len(compared)), np.nan)
    for (i, a), (j, b) in product(enumerate(compared), repeat=2):
        cells = select(result.data["cka"], a, b)
        if i == j:
            inner = np.isin(cells["role"].values, ("stem", "block"))
            values = cells.values.copy()
            np.fill_diagonal(values, np.nan)
            mean[i, j], best[i, j] = _summary(
                values[np.ix_(inner, inner)] if inner.any() else values
            )
        else:
            mean[i, j], best[i, j] = _summary(cells.values)
    return mean, best


def _summary(cka: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of what was measured, and the mean of the highest values of its rows."""
    known = np.isfinite(cka)
    if not known.any():
        return np.nan, np.nan
    rows = cka[known.any(axis=1)]
    return float(cka[known].mean()), float(np.nanmax(rows, axis=1).mean())
