"""The figures of Grad-CAM, drawn from the arrays of its result alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from zoo.figures import style
from zoo.figures.image_grid import enlarge_map, image_grid
from zoo.measures.intervals import mean_interval
from zoo.study.results import Result

MODELS_A_FIGURE = 2
MIN_SIDE = 128  # pixels: smaller pictures are enlarged, so that finer maps are seen
LINES: dict[str, tuple[str, Any]] = {
    "predicted": ("Grad-CAM", "-"),
    "rollout": ("rollout", "-."),
    "random": ("random map", "--"),
}
KINDS = {"predicted": "predicted class", "true": "true class", "rollout": "attention rollout"}
EMPTY = "nothing speaks for it"


def overlay(picture: NDArray[np.uint8], values: NDArray) -> NDArray[np.uint8]:
    """Lay a map over a picture turned grey.

    Args:
        picture: (height, width, 3) uint8.
        values: (h, w) map >= 0; its own maximum gets the brightest colour.

    Returns:
        (height, width, 3) uint8, a whole multiple of the picture's size.
    """
    factor = max(1, math.ceil(MIN_SIDE / min(picture.shape[:2])))
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    grey = large.mean(axis=2, keepdims=True) / 255
    scaled = values / max(float(values.max()), np.finfo(np.float32).tiny)
    colours = mpl.colormaps[style.SEQUENTIAL](enlarge_map(scaled, *large.shape[:2]))[..., :3]
    return ((0.5 * grey + 0.5 * colours) * 255).round().astype(np.uint8)


def draw_maps(result: Result, models: Sequence[str]) -> Figure:
    """Draw the shown images with the maps of a model or two laid over them."""
    first = result.part(models[0])
    rows: list[list[NDArray | None]] = [[picture] for picture in first["images"].values]
    titles = ["input"]
    texts: dict[int, list[str]] = {}
    empty: list[tuple[int, int]] = []
    for name in models:
        part = result.part(name)
        for kind, words in KINDS.items():
            if kind not in part:
                continue
            if f"{kind}_class" in part.coords:
                texts[len(titles)] = [str(text) for text in part[f"{kind}_class"].values]
            titles.append(f"{style.shorten(name, 16)}\n{words}")
            maps = part[kind].values
            empty += [(i, len(titles) - 1) for i, values in enumerate(maps) if not values.any()]
            for row, picture, values in zip(rows, part["images"].values, maps, strict=True):
                row.append(overlay(picture, values) if np.isfinite(values).all() else None)
    grid = image_grid(
        rows,
        row_labels=first["image"].values.tolist(),
        column_labels=titles,
        cell=0.95,
        foot="each map in its own colours: dark is 0, bright its highest value; "
        "in the corner: the class",
    )
    outlined = [withStroke(linewidth=1.2, foreground="k")]
    written: Any = {"fontsize": style.LABEL_POINTS, "color": "white", "path_effects": outlined}
    for j, labels in texts.items():
        for i, text in enumerate(labels):
            x, y = grid.place(i, j)
            grid.axis.text(x + 5, y + 5, style.shorten(text, 16), va="top", **written)
    for cell in empty:
        x, y = grid.place(*cell)
        below = y + grid.cell[0] - 5
        grid.axis.text(x + 5, below, EMPTY, va="bottom", **written)
    return grid.figure


def draw_curves(result: Result, compared: Sequence[str]) -> Figure:
    """Draw the mean probability of the predicted class against the share of pixels removed.

    Bands are 95 % intervals of the difference from the random map, laid around a map's own line:
    where the random line runs inside, the two are not told apart.
    """
    across = min(3, len(compared))
    down = math.ceil(len(compared) / across)
    with style.styled():
        side = (style.WIDTH - 0.75) / max(2, across) - 0.3
        figure, axes = style.line_panels(
            across, down, size=(side, 1.9), left=0.65, below=0.65, gap=(0.3, 0.67)
        )
        for axis in axes[len(compared) :]:
            axis.set_axis_off()
        for i, (axis, name) in enumerate(zip(axes, compared, strict=False)):
            areas = _draw_model(axis, result, name, style.COLOURS[i % len(style.COLOURS)])
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
    return ", not told apart from random"
