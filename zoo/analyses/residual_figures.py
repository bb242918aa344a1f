"""Figures of residual connections: token × block maps, and means against depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from zoo.analyses.seed_bands import seed_line
from zoo.figures import style
from zoo.study.axes import select
from zoo.study.results import RANGES, SIGNED, Result

if TYPE_CHECKING:
    import xarray as xr

COSINE = "cosine"
RATIO = "‖z‖ / ‖f(z)‖"
PANEL, STRIP = 1.45, 0.14  # inches: the side of a map, and the height of a prefix token's row
LINES = ("-", "--", ":", "-.")  # one a kind of branch
MOST_MARKED = 1e4  # between the ends of a logarithmic axis that is marked by 2 and 5 as well
HIGHEST = 0.9  # at which an axis of cosines begins


def draw_tokens(part: xr.Dataset) -> Figure:
    """Draw one panel per measure, with the prefix tokens as a strip above the patches."""
    tokens, blocks = ([str(v) for v in part[key].values] for key in ("token", "name"))
    prefix = int(part.attrs["num_prefix_tokens"])
    ratios = [str(kind) for kind in part["branch"].values]
    tables = {kind: part["ratio"].sel(branch=kind).values.T for kind in ratios}
    tables[COSINE] = part["cosine"].values.T
    shared = np.concatenate([tables[key].ravel() for key in ratios])
    positive = shared[shared > 0]
    # A token that is zero has the ratio 0: a log scale shows it as its lowest value.
    ends = (positive.min(), positive.max()) if positive.size else (1, 10)  # all branches are zero
    norm = LogNorm(ends[0], ends[1], clip=True)
    cosines = Normalize(_lowest_cosine(tables[COSINE]), 1, clip=False)
    strip = STRIP * prefix
    below = 0.15 + style.widest_label(blocks, PANEL)
    lefts = [0.5 + i * (PANEL + 0.1) for i in range(len(ratios))]
    bars = [lefts[-1] + PANEL + style.BAR_GAP]
    lefts.append(bars[0] + 1.0)
    bars.append(lefts[-1] + PANEL + style.BAR_GAP)
    with style.styled():
        figure = Figure(figsize=(bars[-1] + 0.65, below + PANEL + strip + 0.36))
        for left, (key, table) in zip(lefts, tables.items(), strict=True):
            scale = cosines if key == COSINE else norm
            patches = style.axes_at(figure, (left, below), (PANEL, PANEL))
            image = _draw_table(patches, table[prefix:], scale)
            places, names = style.choose_labels(blocks, int(PANEL / style.LABEL_PITCH))
            patches.set_xticks(places, [style.shorten(block) for block in names])
            patches.tick_params(axis="x", rotation=90, labelsize=style.LABEL_POINTS, length=2)
            top = patches
            if prefix:
                top = style.axes_at(figure, (left, below + PANEL + 0.06), (PANEL, strip))
                _draw_table(top, table[:prefix], scale)
                if left == lefts[0]:
                    top.set_yticks(range(prefix), tokens[:prefix])
            top.set_title(key, loc="left")
            if left == lefts[0]:
                patches.set_ylabel(f"{len(tokens) - prefix} patch tokens, row by row", fontsize=7)
            if key in (ratios[-1], COSINE):
                label = "cosine of block input and output" if key == COSINE else RATIO
                corner = (bars[key == COSINE], below)
                beyond = key == COSINE and np.nanmin(tables[key], initial=1) < cosines.vmin
                bar = style.colour_bar(
                    figure, image, corner, PANEL, label=label,
                    extend="min" if beyond else "neither",
                )  # fmt: skip
                bar.ax.yaxis.label.set_fontsize(7)
                if key != COSINE:
                    plain_log(bar.ax.yaxis)
    return figure


def _lowest_cosine(cosines: NDArray) -> float:
    """Return the darkest colour's cosine: below all but a twentieth of them, in full tenths.

    Over all of −1 to 1, hardly anything but a single token that turns would be seen.
    """
    known = cosines[np.isfinite(cosines)]
    lowest = float(np.quantile(known, 0.05)) if known.size else -1.0
    return max(-1.0, min(HIGHEST, math.floor(lowest * 10) / 10))


def _draw_table(axis: Axes, table: NDArray, norm: Normalize) -> AxesImage:
    axis.patch.set(facecolor="white", hatch="xxxxx", edgecolor="0.55")
    axis.set(xticks=[], yticks=[])
    return axis.imshow(
        np.ma.masked_invalid(table), cmap=style.SEQUENTIAL, norm=norm, aspect="auto",
        interpolation="none",
    )  # fmt: skip


def plain_log(axis: Axis) -> None:
    """Mark a logarithmic axis by powers of ten, over few of them by 2 and 5 times these as well."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < MOST_MARKED * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _kinds(result: Result, name: str) -> list[str]:
    """Return the kinds of branches that a network has."""
    ratios = select(result.data["mean_ratio"], name).dropna("branch", how="all")
    return [str(kind) for kind in ratios["branch"].values]


def draw_depth(result: Result, compared: Sequence[str]) -> Figure:
    """Draw mean ratios and cosines of all models against relative depth."""
    with style.styled():
        kinds = sum(max(1, len(_kinds(result, name))) for name in compared)
        figure, (left, right) = style.line_panels(
            2, size=(2.75, 2.0), gap=(0.75, 0), above=0.34 + style.LEGEND_ROW * -(-kinds // 3),
            sharey=False,
        )  # fmt: skip
        for i, name in enumerate(compared):
            ratios = select(result.data["mean_ratio"], name)
            depth = ratios["depth"].values
            look: dict[str, Any] = {
                "color": style.colour(i), "marker": style.marker(i), "linewidth": 1,
                "markersize": style.marker_points(len(depth)),
            }  # fmt: skip
            for kind, line in zip(_kinds(result, name), LINES, strict=False):
                of_kind = result.data["mean_ratio"].sel(branch=kind)
                label, values, ends = seed_line(of_kind, name, within=RANGES["ratio"])
                if len(ends):
                    left.fill_between(depth, *ends, color=look["color"], alpha=0.15, linewidth=0)
                left.plot(depth, values, line, label=f"{label}, {kind}", **look)
            _, values, ends = seed_line(result.data["mean_cosine"], name, within=RANGES[SIGNED])
            if len(ends):
                right.fill_between(depth, *ends, color=look["color"], alpha=0.15, linewidth=0)
            # Where all branches are zero, as before training, only the right panel has its line.
            label = "" if _kinds(result, name) else name
            right.plot(depth, values, LINES[0], label=label, **look)
        left.set_yscale("log")
        left.axhline(1, color="0.5", linestyle=":", linewidth=1)
        plain_log(left.yaxis)
        if right.get_ylim()[0] > HIGHEST:  # else rounding looks like a change with depth
            right.set_ylim(HIGHEST, 1.01)
        left.set(ylabel=f"{RATIO}, mean over tokens", title="skip against branch")
        right.set(ylabel="cosine, mean over tokens", title="block input against output")
        for axis in (left, right):
            axis.set_xlabel(style.DEPTH)
            axis.set_xlim(0, 1.03)
        handles = [line for axis in (left, right) for line in axis.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="upper center", ncols=3)
    return figure
