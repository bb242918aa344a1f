"""Pictures in MLflow's own pages, with the same names in every run so that runs can be compared.

Every training run has `figures/learning-curve.png`, every comparison `figures/`. In MLflow's image
grid a picture has a name and a step, and a slider goes through the steps.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from zoo.figures import style
from zoo.figures.saving import save_figure
from zoo.registry.history import History
from zoo.registry.store import Store

FIGURES, CURVE = "figures", "learning-curve"
PREVIEW_PIXELS = 256
# The analyses whose figures are in the image grid, each figure as a step.
SHOWN = ("cka", "attention-maps", "feature-maps", "receptive-field")
PARTS = {"train": "--", "validation": "-"}


def draw_learning_curve(history: History, name: str) -> Figure:
    """Draw loss and accuracy by epoch, for training and validation."""
    with style.styled():
        figure = style.new_figure(height=2.6)
        for axis, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for (part, line), colour in zip(PARTS.items(), style.COLOURS, strict=False):
                rows = [row for row in history.epochs if f"{part}/{measure}" in row]
                axis.plot(
                    [row["epoch"] for row in rows], [row[f"{part}/{measure}"] for row in rows],
                    line, color=colour, label={"train": "training"}.get(part, part), linewidth=1.3,
                    marker="o", markersize=style.marker_points(len(rows)),
                )  # fmt: skip
            axis.set(xlabel="epoch", ylabel=measure)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(0, 1.02)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.suptitle(name, fontsize=9)
    return figure


def log_learning_curve(store: Store, run: Run, history: History, name: str) -> None:
    """Log a run's learning curve as a file, and in the image grid at its last epoch."""
    if not history.epochs:
        return
    with tempfile.TemporaryDirectory() as temporary:
        figure = draw_learning_curve(history, name)
        png, _ = save_figure(figure, Path(temporary), CURVE)
        store.client.log_artifact(run.info.run_id, str(png), FIGURES)
        _log_image(store, run, png, CURVE, int(history.epochs[-1]["epoch"]))


def log_figures(store: Store, run: Run, folder: Path, report: Mapping[str, Any]) -> None:
    """Show a saved comparison's figures in the image grid: by analysis, one step each."""
    for entry in report.get("analyses", ()):
        if entry["name"] in SHOWN:
            for step, figure in enumerate(entry.get("figures", ()), 1):
                png = folder / FIGURES / f"{figure['file']}.png"
                if png.is_file():
                    _log_image(store, run, png, entry["name"], step)


def _log_image(store: Store, run: Run, png: Path, key: str, step: int) -> None:
    """Put a picture into the image grid; logged again, as after a kill, it replaces itself.

    `MlflowClient.log_image` would use a new name at every call. This is its form of names with an
    identifier that stays the same.
    """
    own = uuid.uuid5(uuid.UUID(run.info.run_id), f"{key}/{step}")
    name = f"{key}+step+{step}+timestamp+{run.info.start_time}+{own}"
    with tempfile.TemporaryDirectory() as temporary, Image.open(png) as image:
        whole = image.convert("RGB")
        whole.save(Path(temporary) / f"{name}.png")
        whole.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS))
        whole.save(Path(temporary) / f"{name}+compressed.webp")
        store.client.log_artifacts(run.info.run_id, temporary, "images")
    store.client.set_tag(run.info.run_id, MLFLOW_LOGGED_IMAGES, True)
