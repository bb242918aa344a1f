"""The figures of Grad-CAM, drawn from the arrays of its result alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from zoo.analyses.attention_figures import colour_range, describe_shares, relative_share
from zoo.analyses.attention_figures import overlay as overlay_shares
from zoo.figures import style
from zoo.figures.image_grid import image_grid
from zoo.figures.seen_through import enlarge, seen_through
from zoo.measures.intervals import mean_interval
from zoo.study.results import Result

LINES: dict[str, tuple[str, Any]] = {
    "predicted": ("Grad-CAM", "-"),
    "rollout": ("rollout", "-."),
    "random": ("random map", "--"),
}
KINDS = {"predicted": "predicted class", "true": "true class", "rollout": "attention rollout"}
EMPTY = "nothing speaks for it"
HALF = 0.5  # of a map's highest value: places of so much are outlined


def overlay(picture: NDArray[np.uint8], values: NDArray) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) seen by a map (h, w) >= 0, over its own maximum."""
    highest = float(values.max())
    return seen_through(picture, values / highest if highest else values, HALF)


def draw_maps(result: Result, name: str) -> Figure:
    """Draw a model's maps over the shown images: rollout by layer, then Grad-CAM.

    The true class has a map only where another one is predicted.
    """
    part = result.part(name)
    pictures = part["images"].values
    titles = ["input"]
    columns: list[list[NDArray | None]] = [[enlarge(picture) for picture in pictures]]
    texts: dict[int, tuple[NDArray, NDArray]] = {}
    foot = "Grad-CAM: over each map's highest value; outlined: from half of it"
    if "rollout" in part:
        shares = relative_share(part["rollout"].values)
        ends = colour_range(shares)
        foot = f"rollout: {describe_shares(*ends)}\n{foot}"
        for i, number in enumerate(part["rollout_layer"].values):
            titles.append(f"rollout\nlayer {number}")
            columns.append(
                [overlay_shares(p, m, *ends) for p, m in zip(pictures, shares[:, i], strict=True)]
            )
    for kind in ("predicted", "true"):
        if kind in part:
            texts[len(titles)] = part[kind].values, part[f"{kind}_class"].values
            titles.append(f"Grad-CAM\n{KINDS[kind]}")
            both = zip(pictures, part[kind].values, strict=True)
            columns.append([overlay(p, m) if np.isfinite(m).all() else None for p, m in both])
    grid = image_grid(
        list(zip(*columns, strict=True)),
        row_labels=part["image"].values.tolist(),
        column_labels=titles,
        cell=1.15,
        foot=foot,
    )
    outlined = [withStroke(linewidth=1.2, foreground="k")]
    written: Any = {"fontsize": style.LABEL_POINTS, "color": "white", "path_effects": outlined}
    for j, (maps, classes) in texts.items():
        for i, (values, text) in enumerate(zip(maps, classes, strict=True)):
            if np.isfinite(values).all():
                x, y = grid.place(i, j)
                grid.axis.text(x + 5, y + 5, style.shorten(str(text), 18), va="top", **written)
                if not values.any():
                    grid.axis.text(x + 5, y + grid.cell[0] - 5, EMPTY, va="bottom", **written)
    return grid.figure


def draw_curves(result: Result, compared: Sequence[str]) -> Figure:
    """Draw the mean probability of the predicted class against the share of pixels removed.

    Bands are 95 % intervals of the difference from the random map, laid around a map's own line:
    where the random line runs inside, the two are not distinguishable.
    """
    across = min(style.PANELS_A_ROW, len(compared))
    with style.styled():
        side = (style.WIDTH - 0.75) / max(2, across) - 0.3
        figure, axes = style.line_panels(
            len(compared), size=(side, 1.9), left=0.65, below=0.65, gap=(0.3, 0.67)
        )
        for i, (axis, name) in enumerate(zip(axes, compared, strict=True)):
            areas = _draw_model(axis, result, name, style.colour(i))
            axis.set(xlim=(0, 1), ylim=(0, 1.45), yticks=np.linspace(0, 1, 5))
            axis.set_xlabel("share of pixels removed")
            axis.set_title(style.shorten(name, 30), loc="left")
            text = "\n".join(["area below the line", *areas])
            axis.text(
                1, 1, text, transform=axis.transAxes, ha="right", va="top",
                fontsize=style.LABEL_POINTS,
            )  # fmt: skip
        images = result.images
        for axis in axes[::across]:
            axis.set_ylabel(f"probability of the predicted\nclass, mean over {images} images")
        handles = [
            Line2D([], [], linestyle=line, color="0.4" if kind == "random" else "k", label=label)
            for kind, (label, line) in LINES.items()
            if any(kind in result.part(name)["order"].values for name in compared)
        ]
        figure.legend(handles=handles, loc="lower center", ncols=3)
    return figure


def _draw_model(axis: Axes, result: Result, name: str, colour: str) -> list[str]:
    """Draw a model's curves, and say what area is below each."""
    curves = result.part(name)["deletion"]
    removed, areas = curves["removed"].values, []
    for kind, (label, line) in LINES.items():
        if kind not in curves["order"].values:
            continue
        of_kind = curves.sel(order=kind).values
        mean = of_kind.mean(axis=0)
        axis.plot(removed, mean, line, color="0.4" if kind == "random" else colour)
        if kind != "random":
            gain, low, high = mean_interval(of_kind - curves.sel(order="random").values)
            ends = mean + low - gain, mean + high - gain
            axis.fill_between(removed, *ends, color=colour, alpha=0.12, lw=0)
        area = np.trapezoid(mean, removed)
        areas.append(f"{label} {area:.2f}{_gain(result, kind, name)}")
    return areas


def _gain(result: Result, kind: str, name: str) -> str:
    """Say by how much a map's area is lower than the random map's, if it is."""
    gain = result.find(f"area_minus_random_{kind}", name)
    if gain is None:
        return ""
    if gain.high < 0:
        return f", lower than random by {-gain.high:.2f} to {-gain.low:.2f}"
    return ", not distinguishable from random"
