"""The folder of a map of models: a page, figures, and every number behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from zoo.errors import counted
from zoo.experiments.zoo_map import GROUPINGS, agreements
from zoo.experiments.zoo_map_figures import draw_matrix, draw_plane
from zoo.figures.saving import saving
from zoo.files import finite, write_bytes, write_json, write_text
from zoo.files.folders import FolderKind
from zoo.report.html import HERE, embed_figure, environment

if TYPE_CHECKING:
    import xarray as xr

REPORT, PAGE, NUMBERS, FIGURES = "map.json", "map.html", "map.nc", "figures"
MATRIX, PLANE = "matrix", "plane"
FOLDER = FolderKind(
    REPORT,
    ("zoo_version", "digest", "at"),
    files=(PAGE, NUMBERS),
    folders={FIGURES: FolderKind(files=("*.png", "*.svg"))},
)


def save(data: xr.Dataset, known: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write a map into an empty folder and return its report.

    Args:
        data: what `zoo.experiments.zoo_map.zoo_map` found.
        known: where it comes from, as JSON values: `at`, `images`, `left_out`, `digest`, ….
        folder: gets map.html, map.json, map.nc and figures/.
    """
    report = describe(data, known)
    with saving(folder / FIGURES) as keep:
        keep(draw_matrix(data), MATRIX)
        keep(draw_plane(data), PLANE)
    write_bytes(folder / NUMBERS, data.to_netcdf(engine="h5netcdf"))  # HDF5 ends on a full disk
    write_json(folder / REPORT, report)
    page = environment().get_template("zoo_map.html.j2").render(
        report=report,
        sheet=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        figures={name: embed_figure(folder / FIGURES, name) for name in (MATRIX, PLANE)},
    )  # fmt: skip
    write_text(folder / PAGE, page)
    return report


def describe(data: xr.Dataset, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a map in words and numbers, without the matrix."""
    names = [str(name) for name in data["network"].values]
    cells = data["cka"].values[np.triu_indices(len(names), 1)]
    return {
        **known,
        "summary": _summary(data, known),
        "share": finite(float(data["share"])),
        "mean_cka": float(cells.mean()),
        "agreements": [dataclasses.asdict(found) for found in agreements(data)],
        "models": [
            {
                "name": name,
                **{what: str(data[what].values[i]) for what in GROUPINGS},
                "seed": int(seed) if np.isfinite(seed := data["seed"].values[i]) else None,
                "position": [float(x) for x in data["position"].values[i]],
                "nearest": [
                    {"name": names[other], "cka": float(cka), "low": finite(ends[0]),
                     "high": finite(ends[1])}
                    for other, cka, ends in zip(
                        data["nearest"].values[i], data["nearest_cka"].values[i],
                        data["nearest_cka_ci"].values[i], strict=True,
                    )
                ],
            }
            for i, name in enumerate(names)
        ],
    }  # fmt: skip


def _summary(data: xr.Dataset, known: Mapping[str, Any]) -> str:
    """Say how often the nearest model is one of the same kind."""
    n, images = data.sizes["network"], known["images"]
    words = {
        "model": "is another version of the same",
        "family": "is of the same family",
        "data": "was trained on the same data",
    }
    shared = ", ".join(
        f"{words[found.what]} for {found.models:,} of {n:,} (by chance {found.by_chance:.1f})"
        for found in agreements(data)
    )
    seen = f"{counted(images['count'], 'image')} of {images['source']}"
    nearest = f" The nearest model {shared}." if shared else ""
    return f"{counted(n, 'model')} on {seen}, compared {known['where']}.{nearest}"
