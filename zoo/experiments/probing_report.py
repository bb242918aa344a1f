"""The probes of one model as a table and as a figure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from zoo.analyses.probe_figures import draw_depth
from zoo.analyses.probed_layers import MEAN
from zoo.experiments.probing import KINDS, PIXELS
from zoo.measures.ridge import FEW_SHOT
from zoo.study.results import Result

UNTRAINED = f"untrained, {MEAN}"


def rows(result: Result) -> list[dict[str, Any]]:
    """Return one row a layer and pooling, the untrained network's too; None without a probe.

    Raw pixels, where they were probed, are the last row; they have no depth.
    """
    (name,) = result.models
    tables = {kind: result.arrays[f"{kind}/{name}"].values for kind in KINDS}
    poolings = result.labels[f"pooling[{name}]"]
    if f"untrained_all/{name}" in result.arrays:
        bare = {kind: result.arrays[f"untrained_{kind}/{name}"].values for kind in KINDS}
        tables = {kind: np.column_stack([v, bare[kind]]) for kind, v in tables.items()}
        poolings = (*poolings, UNTRAINED)
    depth = result.arrays[f"depth/{name}"].values
    found = [
        {
            "layer": layer,
            "depth": round(float(depth[i]), 4),
            "pooling": pooling,
            **{kind: _or_none(values[i, j]) for kind, values in tables.items()},
        }
        for i, layer in enumerate(result.labels[f"layer[{name}]"])
        for j, pooling in enumerate(poolings)
    ]
    if pixels := result.arrays.get("pixels"):
        accuracy = dict(zip(("all", "few"), pixels.values.tolist(), strict=True))
        found.append({"layer": PIXELS, "depth": None, "pooling": "", **accuracy, "penalty": None})
    return found


def draw(result: Result, *, few_shot: int = FEW_SHOT) -> Figure:
    """Draw accuracy against depth: fitted on all images of the subset, and on a few a class."""
    return draw_depth(result, few_shot=few_shot)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
