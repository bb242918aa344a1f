"""How accuracy on the validation split grows while the variants of a study are trained."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoo.figures import style


@dataclass(frozen=True)
class Learning:
    """A variant's validation accuracy (0..1) after so many steps of the optimizer."""

    model: str
    subset: str
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]


def read_learning(model: str, subset: str, epochs: Path) -> Learning:
    """Read what training wrote into `epochs.csv`; epochs without a validation are left out."""
    with epochs.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["validation/accuracy"]]
    steps = tuple(int(row["step"]) for row in rows)
    return Learning(model, subset, steps, tuple(float(row["validation/accuracy"]) for row in rows))


def draw(curves: Sequence[Learning], *, title: str) -> Figure:
    """Draw a panel for each subset, with a colour for each model and a line for each seed."""
    models = list(dict.fromkeys(curve.model for curve in curves))
    subsets = list(dict.fromkeys(curve.subset for curve in curves))
    with style.styled():
        figure = style.new_figure(height=2.8)
        panels = figure.subplots(1, len(subsets), sharey=True, squeeze=False)[0]
        for axis, subset in zip(panels, subsets, strict=True):
            for curve in (curve for curve in curves if curve.subset == subset):
                i = models.index(curve.model)
                axis.plot(
                    curve.steps,
                    curve.accuracy,
                    label=curve.model,
                    color=style.COLOURS[i % len(style.COLOURS)],
                    marker=style.marker(i),
                    markersize=style.marker_points(len(curve.steps)),
                    linewidth=1.3,
                )
            axis.set(title=subset, xlabel="steps", ylim=(0, 1.02))
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.grid(axis="y", alpha=0.3)
        panels[0].set_ylabel("validation accuracy")
        lines = {line.get_label(): line for axis in panels for line in axis.get_lines()}
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(models))
        figure.suptitle(title, fontsize=9)
    return figure
