"""Figures of residual connections: token × block maps, and means against depth."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from zoo.analyses.base import Result
from zoo.report import style

COSINE = "cosine"
LINES = ("o-", "s--", "D:", "^-.")  # one a kind of branch


def draw_tokens(result: Result, name: str) -> Figure:
    """Draw a panel a measure, with the prefix tokens as a strip above the patches."""
    tokens, blocks = result.labels[f"token[{name}]"], result.labels[f"block[{name}]"]
    prefix = sum("," not in token for token in tokens)
    ratios = [f"ratio_{kind}" for kind in _kinds(result, name)]
    tables = {key: result.arrays[f"{key}/{name}"].values.T for key in (*ratios, COSINE)}
    shared = np.concatenate([tables[key].ravel() for key in ratios])
    positive = shared[shared > 0]
    # A token that is zero has the ratio 0: a log scale shows it as its lowest value.
    norm = LogNorm(positive.min(), positive.max(), clip=True)
    with style.styled():
        figure = style.new_figure(height=3.4)
        heights = [0.09 * prefix, 1.0] if prefix else [1.0]
        axes = figure.subplots(
            len(heights), len(tables), squeeze=False, sharex=True, height_ratios=heights
        )
        for i, (key, table) in enumerate(tables.items()):
            scale: dict[str, Any] = {"vmin": -1, "vmax": 1} if key == COSINE else {"norm": norm}
            pieces = [table[:prefix], table[prefix:]] if prefix else [table]
            for axis, piece in zip(axes[:, i], pieces, strict=True):
                axis.patch.set(facecolor="white", hatch="xxxxx", edgecolor="0.55")
                image = axis.imshow(
                    np.ma.masked_invalid(piece), cmap=style.SEQUENTIAL, aspect="auto",
                    interpolation="nearest", **scale,
                )  # fmt: skip
                axis.set_yticks([])
            axes[0, i].set_title(key.removeprefix("ratio_"), loc="left")
            axes[-1, i].set_xticks(*style.choose_labels(blocks, 16), rotation=90)
            if key == ratios[-1]:
                label = "‖z‖ / ‖f(z)‖"
                figure.colorbar(image, ax=axes[:, : len(ratios)], label=label, aspect=30, pad=0.02)
        figure.colorbar(image, ax=axes[:, -1], label="cosine(in, out)", aspect=30, pad=0.02)
        if prefix:
            axes[0, 0].set_yticks(range(prefix), tokens[:prefix])
        axes[-1, 0].set_ylabel(f"{len(tokens) - prefix} patch tokens, row by row")
    return figure


def _kinds(result: Result, name: str) -> list[str]:
    """Return the kinds of branches that a model has, from the names of its arrays."""
    start, end = "mean_ratio_", f"/{name}"
    return [
        k[len(start) : -len(end)] for k in result.arrays if k.startswith(start) and k.endswith(end)
    ]


def draw_depth(result: Result) -> Figure:
    """Draw mean ratios and cosines of all models against relative depth."""
    with style.styled():
        figure = style.new_figure(height=3.1)
        left, right = figure.subplots(1, 2)
        for i, name in enumerate(result.models):
            depth = result.arrays[f"depth/{name}"].values
            look: dict[str, Any] = {
                "color": style.COLOURS[i % len(style.COLOURS)], "markersize": 3, "linewidth": 1,
            }  # fmt: skip
            for kind, line in zip(_kinds(result, name), LINES, strict=False):
                values = result.arrays[f"mean_ratio_{kind}/{name}"].values
                left.plot(depth, values, line, label=f"{name}, {kind}", **look)
            values = result.arrays[f"mean_{COSINE}/{name}"].values
            right.plot(depth, values, LINES[0], label=name, **look)
        left.set_yscale("log")
        left.axhline(1, color="0.5", linestyle=":", linewidth=1)
        left.set(ylabel="‖z‖ / ‖f(z)‖, mean over tokens", title="skip against branch")
        right.set(ylabel="cosine, mean over tokens", title="block input against output")
        for axis in (left, right):
            axis.set_xlabel("relative depth (1: last block)")
            axis.set_xlim(0, 1.03)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
