"""Figures of the map of a zoo: the matrix with its dendrogram, and the plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from zoo.figures import style
from zoo.figures.labels import LABEL_PITCH, LABEL_POINTS, shorten, text_width, widest_label
from zoo.measures.linear_cka import LABEL

if TYPE_CHECKING:
    import xarray as xr

MARKERS, OTHERS = "osD^vPX*p", "."
SEEDED = 60  # versions; of more, the numbers beside the points would cover each other
NAMED = 12  # models; of more, so would the names below them
POINTS, DOT = 7, 6  # points: the texts' size, and the width of a model's mark
# Points from a mark to its number: the nearest that is free, with a line from the second on.
AWAY = (7.5, 13.0, 18.5, 24.0, 29.5, 35.0)
LINE: Any = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
WRITTEN = 14  # models whose similarities are written into the matrix
TREE, STRIP, GAP = 0.8, 0.1, 0.04  # inches
LONGEST = 32  # characters of a name


def draw_matrix(data: xr.Dataset) -> Figure:
    """Draw the similarity of all models, in the order of the dendrogram above it."""
    order, names = data["order"].values, [str(name) for name in data["network"].values]
    named = [shorten(names[i], LONGEST) for i in order]
    bar = style.BAR_GAP + style.BAR_WIDTH + style.BAR_LABELS
    left = style.TICK_ROOM + widest_label(named, len(named) * LABEL_PITCH, LONGEST) + 0.3
    fits = len(named) * LABEL_PITCH <= style.WIDTH - bar - left
    left = left if fits else 0.55
    side = min(style.WIDTH - bar - left, 4.6)
    below, colours = 0.3, _colours(data)
    with style.styled():
        figure = style.new_figure(left + side + bar, below + side + STRIP + TREE + 3 * GAP + 0.1)
        figure.set_layout_engine("none")
        axis = style.axes_at(figure, (left, below), (side, side))
        values = data["cka"].values[np.ix_(order, order)]
        image = axis.imshow(
            values, cmap=style.SEQUENTIAL, vmin=0, vmax=1, aspect="auto", interpolation="none"
        )
        if len(named) <= WRITTEN:
            style.write_values(axis, values, points=min(8.0, 60 / len(named)))
        axis.set_xticks([])
        axis.set_yticks(range(len(named)) if fits else [], named if fits else [])
        axis.tick_params(labelsize=LABEL_POINTS, length=2, width=0.5, pad=2)
        axis.spines[:].set(visible=True, linewidth=0.5)
        if not fits:
            axis.set_ylabel(f"{len(named):,} models, in the order of the tree")
        strip = style.axes_at(figure, (left, below + side + GAP), (side, STRIP))
        for place, i in enumerate(order):
            strip.axvspan(place - 0.5, place + 0.5, color=colours[str(data["family"].values[i])])
        strip.set(xlim=(-0.5, len(named) - 0.5), xticks=[], yticks=[])
        strip.spines[:].set_visible(False)
        tree = style.axes_at(figure, (left, below + side + STRIP + 2 * GAP), (side, TREE))
        _draw_tree(tree, data["merges"].values, order)
        style.colour_bar(figure, image, (left + side + style.BAR_GAP, below), side, label=LABEL)
        handles = [Line2D([], [], marker="s", ls="", color=c, label=f) for f, c in colours.items()]
        figure.legend(handles=handles, loc="lower left", ncols=len(handles), borderpad=0.2)
    return figure


def _draw_tree(axis: Axes, merges: NDArray[np.float64], order: NDArray[np.intp]) -> None:
    """Draw a dendrogram; SciPy's recurses as deep as the tree, which may be too deep for Python."""
    count = len(order)
    place, height = np.zeros(2 * count - 1), np.zeros(2 * count - 1)
    place[order] = np.arange(count)
    lines = []
    for step, (a, b) in enumerate(merges[:, :2].astype(int)):
        at = merges[step, 2]
        lines.append([(place[a], height[a]), (place[a], at), (place[b], at), (place[b], height[b])])
        place[count + step], height[count + step] = (place[a] + place[b]) / 2, at
    axis.add_collection(LineCollection(lines, colors="0.2", linewidths=0.7))
    axis.set(xlim=(-0.5, count - 0.5), ylim=(0, max(float(merges[:, 2].max()) * 1.05, 1e-6)))
    axis.set_xticks([])
    axis.set_ylabel("1 − CKA")
    axis.spines["bottom"].set_visible(False)


def draw_plane(data: xr.Dataset) -> Figure:
    """Draw where each model lies: colour is its family, shape its data, the number its seed."""
    colours, shapes = _colours(data), _shapes([str(value) for value in data["data"].values])
    points, seeds = data["position"].values, data["seed"].values
    with style.styled():
        figure = style.new_figure(height=4.4)
        axis = figure.subplots()
        rows = zip(points, data["family"].values, data["data"].values, strict=True)
        for (x, y), family, trained_on in rows:
            shape = shapes.get(str(trained_on), OTHERS)
            axis.plot(
                x, y, shape, color=colours[str(family)], markersize=DOT, alpha=0.75,
                markeredgewidth=0,
            )  # fmt: skip
        axis.set_aspect("equal", adjustable="datalim")
        # Room for names at both sides, as data: an equal aspect takes margins away again.
        room = [0.12 * np.ptp(points[:, 0]), 0.0]
        axis.update_datalim([points.min(axis=0) - room, points.max(axis=0) + room])
        axis.margins(0.08)
        axis.set(xlabel="first axis (distance is √(2 − 2 CKA))", ylabel="second axis")
        share = float(data["share"])
        kept = "all models are alike" if np.isnan(share) else f"{100 * share:.0f} % of the variance"
        numbers = ", numbers are seeds" if len(seeds) <= SEEDED else ""
        axis.set_title(f"{len(seeds):,} models in a plane that keeps {kept}{numbers}", loc="left")
        handles = [Line2D([], [], marker="o", ls="", color=c, label=f) for f, c in colours.items()]
        drawn = shapes | (
            {"other data": OTHERS} if len(shapes) < len({*data["data"].values}) else {}
        )
        of_data = [
            Line2D(
                [], [], marker=s, ls="", color="0.4", label=shorten(d, LONGEST) or "unknown data"
            )
            for d, s in drawn.items()
        ]
        # Colours and marks each below what they stand for.
        heads = [Line2D([], [], ls="", label=text) for text in ("family:", "trained on:")]
        figure.legend(handles=[heads[0], *handles, heads[1], *of_data], loc="outside right center")
        # What is written beside points has to know where they end up.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        scale = 72 / figure.dpi
        taken = [_Box(x, y, DOT / 2, DOT / 2) for x, y in scale * axis.transData.transform(points)]
        if len(seeds) <= SEEDED:
            _number_points(axis, points, seeds, taken)
        _name_models(axis, data, taken)
    return figure


class _Box(NamedTuple):
    """What is drawn in a figure: its centre, half its width and half its height, in points."""

    x: float
    y: float
    across: float
    down: float

    def covers(self, other: _Box) -> bool:
        apart = abs(self.x - other.x), abs(self.y - other.y)
        return apart[0] < self.across + other.across and apart[1] < self.down + other.down


def _box(text: str, x: float, y: float) -> _Box:
    return _Box(x, y, 36 * text_width(text, POINTS), POINTS / 2)


def _take(boxes: Sequence[_Box], taken: list[_Box]) -> _Box:
    """Return the first box that covers nothing, or else the very first; add it to `taken`."""
    free = (box for box in boxes if not any(box.covers(other) for other in taken))
    taken.append(next(free, boxes[0]))
    return taken[-1]


def _number_points(
    axis: Axes, points: NDArray[np.float64], seeds: NDArray[np.float64], taken: list[_Box]
) -> None:
    """Write each model's seed beside its mark, where nothing else stands; add it to `taken`."""
    angles = np.pi / 4 + np.linspace(0, 2 * np.pi, 16, endpoint=False)
    for place, seed, dot in zip(points, seeds, taken.copy(), strict=True):
        if not np.isfinite(seed):
            continue
        text = f"{int(seed)}"
        offsets = [(r * np.cos(a), r * np.sin(a)) for r in AWAY for a in angles]
        box = _take([_box(text, dot.x + x, dot.y + y) for x, y in offsets], taken)
        x, y = box.x - dot.x, box.y - dot.y
        moved = np.hypot(x, y) > (AWAY[0] + AWAY[1]) / 2
        axis.annotate(
            text, place, xytext=(x, y), textcoords="offset points", fontsize=POINTS,
            ha="center", va="center", arrowprops=LINE if moved else None,
        )  # fmt: skip


def _name_models(axis: Axes, data: xr.Dataset, taken: list[_Box]) -> None:
    """Write each model's name by its versions: below, above or beside, the nearest free place."""
    models, points = data["model"].values, data["position"].values
    names = sorted({str(model) for model in models})
    if len(names) > NAMED:
        return
    scale = 72 / axis.figure.dpi
    panel = axis.get_window_extent()
    groups = {name: scale * axis.transData.transform(points[models == name]) for name in names}
    for name in sorted(names, key=lambda name: -groups[name][:, 1].min()):
        text, own = shorten(name, LONGEST), groups[name]
        (left, low), (right, high) = own.min(axis=0), own.max(axis=0)
        x, y = own.mean(axis=0)
        half = _box(text, x, y).across
        around = [
            box
            for away in np.arange(8.0, 200, 2)
            for box in (
                _box(text, x, low - away),
                _box(text, x, high + away),
                _box(text, right + away + half, y),
                _box(text, left - away - half, y),
            )
            if scale * panel.x0 < box.x - half and box.x + half < scale * panel.x1
        ]
        box = _take(around or [_box(text, x, low - 8)], taken)
        axis.annotate(
            text, points[models == name].mean(axis=0),
            xytext=(box.x - x, box.y - y), textcoords="offset points",
            fontsize=POINTS, color="0.3", ha="center", va="center",
        )  # fmt: skip


def _colours(data: xr.Dataset) -> dict[str, str]:
    """Return the colour of each family, the same on every map."""
    families = sorted({str(family) for family in data["family"].values})
    return {family: style.FAMILY_COLOURS[family] for family in families}


def _shapes(trained_on: Sequence[str]) -> dict[str, str]:
    """Return a marker for each of the most common data; there are not enough for any number."""
    common = [value for value, _ in Counter(sorted(trained_on)).most_common(len(MARKERS))]
    return dict(zip(sorted(common), MARKERS, strict=False))
