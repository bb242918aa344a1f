"""Figures of CKA: all models at a glance, then the layers of each pair."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.figures import style
from zoo.measures.linear_cka import LABEL
from zoo.study.results import Result, pair_name

INNER = "stem_and_blocks"  # label of the layers that a model is compared with itself by


def draw_pair(result: Result, a: str, b: str) -> Figure:
    """Draw the layers of two models with themselves and with each other; of one, if both are it."""
    panels = [(a, a)] if a == b else [(a, a), (b, b), (a, b)]
    maps = [
        style.HeatMap(
            values=result.arrays[f"cka/{pair_name(p, q)}"].values,
            rows=result.labels[f"layer[{p}]"],
            columns=result.labels[f"layer[{q}]"],
            row_title=p,
            column_title=q,
        )
        for p, q in panels
    ]
    low, high = result.scales["cka"].ends
    return style.heat_maps(maps, colour_label=LABEL, low=low, high=high)


def draw_models(result: Result) -> Figure:
    """Draw models by models: the mean over all pairs of layers, and over each layer's best match.

    On the diagonal, a model's stem and blocks are compared, none of them with itself; elsewhere
    all layers, heads too.
    """
    mean, best = summary_matrices(result)
    titles = {
        "mean of all pairs of layers, heads included\n(diagonal: pairs of stem and blocks)": mean,
        "mean of the row's layers, each with\nthe column's layer that it is most like": best,
    }
    names = list(result.models)
    maps = [style.HeatMap(values, names, names, "", "", title) for title, values in titles.items()]
    low, high = result.scales["cka"].ends
    figure = style.heat_maps(maps, colour_label=LABEL, low=low, high=high)
    points = max(4.0, min(8.0, 36 / len(names)))
    for axis, values in zip(figure.axes, titles.values(), strict=False):
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "black" if value > 0.6 else "white"
                axis.text(
                    j, i, f"{value:.2f}", ha="center", va="center", fontsize=points, color=ink
                )
    return figure


def summary_matrices(result: Result) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (models, models) mean CKA of all pairs of layers, and of each row's best matches.

    On the diagonal, these are pairs of different layers among stem and blocks, as in the metric
    `off_diagonal_mean`; of a network without blocks, among all layers.
    """
    count = len(result.models)
    mean, best = np.full((2, count, count), np.nan)
    for i, a in enumerate(result.models):
        cka = result.arrays[f"cka/{pair_name(a, a)}"].values.copy()
        np.fill_diagonal(cka, np.nan)
        layers = result.labels[f"layer[{a}]"]
        inner = [layers.index(layer) for layer in result.labels.get(f"{INNER}[{a}]") or layers]
        cka = cka[np.ix_(inner, inner)]
        mean[i, i], best[i, i] = _summary(cka)
    for i, j in combinations(range(count), 2):
        cka = result.arrays[f"cka/{pair_name(result.models[i], result.models[j])}"].values
        mean[i, j], best[i, j] = _summary(cka)
        mean[j, i], best[j, i] = _summary(cka.T)
    return mean, best


def _summary(cka: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of what was measured, and the mean of the highest values of its rows."""
    known = np.isfinite(cka)
    if not known.any():
        return np.nan, np.nan
    rows = cka[known.any(axis=1)]
    return float(cka[known].mean()), float(np.nanmax(rows, axis=1).mean())
