"""Figures of effective receptive fields: one map per layer, and radii against depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from zoo.figures import style
from zoo.figures.image_grid import image_grid
from zoo.study.axes import select
from zoo.study.results import Result
from zoo.study.spatial_layout import evenly

if TYPE_CHECKING:
    import xarray as xr

SUM = "sum"  # the path of what leaves a block, after its residual sum
SHARES = {"core": 0.5, "reach": 0.9}  # of the mass, by the variable that holds its radius
COLUMNS = 6
FLOOR = 1e-3  # of a map's maximum: what is fainter is drawn alike


def draw_maps(part: xr.Dataset, layers: Sequence[str]) -> Figure:
    """Draw rows: after the residual sum, then each kind of branch; columns: depth.

    Args:
        part: what the analysis found of one network.
        layers: what its layers are called.
    """
    rows = {
        "after the sum" if path == SUM else f"{path} branch": dict(zip(layers, maps, strict=True))
        for path, maps in zip(part["path"].values.tolist(), part["map"].values, strict=True)
    }
    shown = evenly(layers, COLUMNS)
    # A block without such a branch has no map: its cell stays empty.
    cells = [
        [None if np.isnan(maps[x]).all() and i else maps[x] / maps[x].max() for x in shown]
        for i, maps in enumerate(rows.values())
    ]
    height, width = next(iter(rows["after the sum"].values())).shape
    foot = f"each map: the {width} × {height} pixels of the input"
    if len(shown) < len(layers):
        foot += f"; {len(shown)} of {len(layers)} layers shown"
    return image_grid(
        cells,
        row_labels=list(rows),
        column_labels=shown,
        cell=1.0,
        # A faint rest all over the image may hold half of the mass: a linear scale hides it.
        norm=LogNorm(FLOOR, 1, clip=True),
        bar_label="gradient / the map's maximum (logarithmic scale)",
        ticks=(0.001, 0.01, 0.1, 1),
        extend="min",
        foot=foot,
    ).figure


def draw_radii(result: Result, compared: Sequence[str], even: Mapping[str, float]) -> Figure:
    """Draw all models' radii against relative depth, and those of an even field."""
    with style.styled():
        rows = -(-(len(compared) + 1) // 4)
        figure, axes = style.line_panels(
            len(SHARES), size=(3.05, 1.95), above=0.34 + style.LEGEND_ROW * rows
        )
        for axis, (key, share) in zip(axes, SHARES.items(), strict=True):
            for i, name in enumerate(compared):
                radii = select(result.data[key], name)
                points = radii["depth"].values, radii.values
                colour = style.colour(i)
                marks = style.marker(i) + "-"
                size = style.marker_points(len(points[0]))
                axis.plot(*points, marks, color=colour, label=name, markersize=size, linewidth=1)
            axis.axhline(even[key], color="0.5", linestyle=":", linewidth=1, label="even field")
            axis.set_title(f"disc with {100 * share:.0f} % of the mass", loc="left")
            axis.set_xlabel(style.DEPTH)
        axes[0].set_ylabel("radius / half of the image's diagonal")
        axes[0].set_ylim(0, None)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=4)
    return figure
