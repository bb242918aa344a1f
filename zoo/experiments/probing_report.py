"""The probes of one model as a report, a table and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zoo.analyses.probe_figures import draw_depth
from zoo.analyses.probed_layers import MEAN
from zoo.data.subsets import Subset
from zoo.experiments.probing import PIXELS
from zoo.figures.saving import save_figure
from zoo.files import csv_text, finite, write_json, write_text
from zoo.files.folders import FolderKind
from zoo.measures.ridge import FEW_SHOT
from zoo.models.files import LoadedModel
from zoo.study.networks import layer_labels
from zoo.study.results import INITIAL, Result

FOLDER = FolderKind(
    "probe.json", ("model", "few_shot"), files=("probe.csv", "probe.png", "probe.svg")
)
UNTRAINED = f"untrained, {MEAN}"


def save(
    result: Result,
    folder: Path,
    model: LoadedModel,
    train: Subset,
    test: Subset,
    *,
    few_shot: int,
    seed: int,
) -> dict[str, Any]:
    """Write probe.json, probe.csv and the figure of what `probe_model` found; return the report.

    Arguments as those of `probe_model`; `folder` is there already.
    """
    report = {
        "model": {"name": model.name, "uri": model.uri, "digest": model.digest},
        "train": {"name": train.info.name, "digest": train.info.digest},
        "test": {"name": "test", "digest": test.info.digest},
        "images": {part: result.data.attrs[f"{part}_images"] for part in ("fit", "test")},
        "few_shot": few_shot,
        "seed": seed,
        "layers": [row for row in rows(result) if row["layer"] != PIXELS],
        "metrics": [
            {"measure": m.measure, "network": m.network, "value": m.value} for m in result.metrics
        ],
        "notes": list(result.notes),
    }
    write_json(folder / "probe.json", report)
    write_text(folder / "probe.csv", csv_text(rows(result)))
    save_figure(draw(result, few_shot=few_shot), folder, "probe")
    return report


def rows(result: Result) -> list[dict[str, Any]]:
    """Return one row per layer and pooling, the untrained network's too; None without a probe.

    Raw pixels, where they were probed, are the last row; they have no depth.
    """
    numbers = result.data[["accuracy", "few_shot", "penalty"]]
    labels = layer_labels(numbers["name"].values, numbers["role"].values)
    numbers = numbers.assign_coords(name=("layer", labels))
    table = numbers.to_dataframe(dim_order=["layer", "pooling"])
    found = [
        {
            "layer": str(row["name"]),
            "depth": round(float(row["depth"]), 4),
            "pooling": UNTRAINED if row["state"] == INITIAL else pooling,
            "all": finite(row["accuracy"]),
            "few": finite(row["few_shot"]),
            "penalty": finite(row["penalty"]),
        }
        # A layer's rows stand together, the untrained network's after its own.
        for name in dict.fromkeys(table["name"])
        for (_, pooling), row in table[table["name"] == name].iterrows()
        if row["state"] != INITIAL or pooling == MEAN
    ]
    pixels = [result.metric(name) for name in ("pixels_accuracy", "pixels_few_shot_accuracy")]
    if None not in pixels:
        accuracy = dict(zip(("all", "few"), pixels, strict=True))
        found.append({"layer": PIXELS, "depth": None, "pooling": "", **accuracy, "penalty": None})
    return found


def draw(result: Result, *, few_shot: int = FEW_SHOT) -> Figure:
    """Draw accuracy against depth: fitted on all images of the subset, and on a few a class."""
    names = tuple(dict.fromkeys(map(str, result.data["accuracy"]["model"].values)))
    return draw_depth(result, names, few_shot=few_shot)
