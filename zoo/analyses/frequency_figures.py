"""Figures of frequencies: against depth, as curves, and answers on changed images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from zoo.analyses.seed_bands import seed_line
from zoo.figures import style
from zoo.study.axes import select
from zoo.study.results import Result

AMPLITUDE = "Δ log amplitude"
KINDS = ("-", "--", ":", "-.")


def _look(i: int) -> dict[str, Any]:
    return {"color": style.colour(i), "linewidth": 1}


def draw_depth(result: Result, compared: Sequence[str]) -> Figure:
    """Draw each layer's highest frequency, and how each branch changes it, against depth."""
    with style.styled():
        parts = {name: result.part(name) for name in compared}
        kinds = {name: _kinds(part) for name, part in parts.items()}
        entries = max(len(compared), sum(map(len, kinds.values())))
        figure, (left, right) = style.line_panels(
            2, size=(2.75, 2.1), gap=(0.75, 0), sharey=False,
            above=0.34 + style.LEGEND_ROW * -(-entries // 3),
        )  # fmt: skip
        several = False
        for i, (name, part) in enumerate(parts.items()):
            depth = select(result.data["highest"], name)["depth"]
            of_images = select(result.data["highest_ci"], name).values.T
            label, line, ends = seed_line(result.data["highest"], name, of_images)
            several = several or label != name
            left.fill_between(depth, *ends, alpha=0.2, linewidth=0, color=style.colour(i))
            left.plot(depth, line, style.marker(i) + KINDS[0], ms=3, label=label, **_look(i))
            for kind, look in zip(kinds[name], KINDS, strict=False):
                change = select(part["change"], kind=kind)
                bars = select(part["change_ci"], kind=kind).values.T
                right.errorbar(
                    change["depth"], change, fmt=style.marker(i) + look, markersize=3,
                    label=f"{name}, {kind}",
                    yerr=np.abs(bars - change.values), elinewidth=0.7, **_look(i),
                )  # fmt: skip
        right.axhline(0, color="0.5", linestyle=":", linewidth=1)
        left.set(
            title="highest frequency of the maps" + ", mean of seeds" * several,
            ylabel=f"{AMPLITUDE} (highest − mean)",
        )
        right.set(title="what a branch adds to it", ylabel=f"change of {AMPLITUDE}")
        for axis in (left, right):
            axis.set_xlabel(style.DEPTH)
            axis.set_xlim(-0.03, 1.03)
        named = right if any(kinds.values()) else left
        figure.legend(*named.get_legend_handles_labels(), loc="upper center", ncols=3)
    return figure


def _kinds(part: xr.Dataset) -> list[str]:
    return list(dict.fromkeys(part["kind"].values.tolist())) if "kind" in part else []


def draw_curves(result: Result, compared: Sequence[str]) -> Figure:
    """Draw Δ log amplitude over frequency: one panel per network, one line per layer."""
    compared = [name for name in compared if name in result.data["highest"]["network"].values]
    with style.styled():
        across = min(len(compared), style.PANELS_A_ROW)
        size = min(2.6, (style.WIDTH - 1.3) / across - 0.15)
        figure, axes = style.line_panels(len(compared), size=(size, 2.0), right=0.75)
        colours = ScalarMappable(Normalize(0, 1), style.SEQUENTIAL)
        for axis, name in zip(axes, compared, strict=True):
            of = select(result.data["highest"], name)
            for layer, depth in zip(of["name"].values, of["depth"].values, strict=True):
                curve = result.part(name, str(layer))["amplitude"]
                look: dict[str, Any] = {"color": colours.to_rgba(depth), "linewidth": 1}
                axis.plot(curve["frequency"], curve, "o-", markersize=2, **look)
            axis.set_title(style.shorten(name, 30), loc="left")
            axis.set_xlabel("frequency (1: the layer's highest)")
            axis.set_xlim(0, 1.03)
        axes[0].set_ylabel(f"{AMPLITUDE} (frequency − mean)")
        width, _ = figure.get_size_inches()
        style.colour_bar(figure, colours, (width - 0.65, 0.42), 2.0, label=style.DEPTH)
    return figure


def draw_answers(result: Result, compared: Sequence[str]) -> Figure:
    """Draw accuracy under noise of each band, and whose class is answered on hybrid images."""
    parts = {name: result.part(name) for name in compared}
    rated = {name: part for name, part in parts.items() if "noise_accuracy" in part}
    with style.styled():
        figure, (left, right) = style.line_panels(
            2, size=(2.68, 2.1), gap=(0.75, 0), sharey=False, left=0.69,
            above=0.34 + style.LEGEND_ROW * len(rated),
        )  # fmt: skip
        for i, (name, of) in enumerate(rated.items()):
            _band(left, of["band"], of["noise_accuracy"], of["noise_accuracy_ci"], "-", i, name)
            left.axhline(float(of["clean_accuracy"]), linestyle=":", **_look(i))
            for source, line in (("low", "-"), ("high", "--")):
                if "hybrid_share" in of:
                    share, ends = (
                        of[key].sel(source=source) for key in ("hybrid_share", "hybrid_share_ci")
                    )
                    said = f"{name}, class of the {source} frequencies"
                    _band(right, of["cut"], share, ends, line, i, said)
        for of in list(rated.values())[:1]:
            left.axhline(float(of["chance"]), linestyle="--", color="0.5", linewidth=0.7)
        n = max(part.attrs["answered_images"] for part in rated.values())
        left.set(
            title=f"noise in one band, {n} images",
            ylabel="accuracy (dotted: without noise,\ndashed: by guessing)",
            xlabel="frequency of the noise (1: highest)", xlim=(0, 1), ylim=(0, None),
        )  # fmt: skip
        right.set(
            title="hybrid images: low of one, high of another", ylabel="share of answers",
            xlabel="cut between low and high (1: highest frequency)",
            xlim=(0, None), ylim=(0, None),
        )  # fmt: skip
        named = right if right.lines else left
        figure.legend(*named.get_legend_handles_labels(), loc="upper center", ncols=2)
    return figure


def _band(axis: Axes, x: Any, values: Any, ends: Any, line: str, i: int, label: str) -> None:
    """Draw shares with their 95 % intervals as a line and a band."""
    low, high = (ends.isel(ci_bound=end).values for end in (0, 1))
    axis.fill_between(x.values, low, high, alpha=0.15, linewidth=0, color=style.colour(i))
    marks = style.marker(i) + line
    axis.plot(x.values, values.values, marks, markersize=3, label=label, **_look(i))
