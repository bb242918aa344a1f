"""Accuracy against the amount of training data (Zhu et al. 2023; Raghu et al. 2021, Fig. 13)."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from zoo.figures import style
from zoo.files import csv_text


@dataclass(frozen=True)
class Trial:
    """One trained variant: `images` it was trained on, test `accuracy` (0..1), `seconds`."""

    model: str
    subset: str
    seed: int
    images: int
    accuracy: float
    parameters: int
    images_seen: int
    seconds: float


@dataclass(frozen=True)
class Point:
    """A model on a subset over its seeds: mean, and sample deviation of two or more."""

    model: str
    subset: str
    images: int
    seeds: int
    accuracy: float
    deviation: float | None
    parameters: int
    images_seen: int
    seconds: float


def over_seeds(trials: Sequence[Trial]) -> list[Point]:
    """Average trials over seeds, in the order of their first appearance."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.model, trial.subset), []).append(trial)
    return [_point(group) for group in groups.values()]


def _point(group: list[Trial]) -> Point:
    accuracies = [trial.accuracy for trial in group]
    first = group[0]
    return Point(
        model=first.model,
        subset=first.subset,
        images=first.images,
        seeds=len(group),
        accuracy=statistics.mean(accuracies),
        deviation=statistics.stdev(accuracies) if len(group) > 1 else None,
        parameters=first.parameters,
        images_seen=first.images_seen,
        seconds=statistics.mean(trial.seconds for trial in group),
    )


def gaps(points: Sequence[Point], better: str, worse: str) -> dict[str, float]:
    """Return, for each subset, the accuracy of one model minus that of another."""
    of = {(p.model, p.subset): p.accuracy for p in points}
    subsets = dict.fromkeys(p.subset for p in points)
    return {
        s: of[better, s] - of[worse, s] for s in subsets if {(better, s), (worse, s)} <= set(of)
    }


def as_csv(trials: Sequence[Trial]) -> str:
    """Return one line per trial."""
    return csv_text([dataclasses.asdict(trial) for trial in trials])


def as_markdown(points: Sequence[Point], test_images: int) -> str:
    """Return a table a person can read."""
    lines = [
        f"Test accuracy on {test_images} images: mean ± standard deviation over seeds.",
        "",
        "| model | subset | training images | accuracy | seeds | parameters | images seen | time |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for p in points:
        spread = "" if p.deviation is None else f" ± {p.deviation:.3f}"
        lines.append(
            f"| {p.model} | {p.subset} | {p.images:,} | {p.accuracy:.3f}{spread} | {p.seeds} "
            f"| {p.parameters:,} | {p.images_seen:,} | {p.seconds:.0f} s |"
        )
    return "\n".join(lines) + "\n"


def draw(points: Sequence[Point], *, title: str) -> Figure:
    """Draw accuracy against training images (log axis): one line per model, a band over seeds."""
    with style.styled():
        figure = style.new_figure(width=4.6, height=3.0)
        axis = figure.subplots()
        models = list(dict.fromkeys(p.model for p in points))
        for i, model in enumerate(models):
            line = sorted((p for p in points if p.model == model), key=lambda p: p.images)
            images, accuracy = [p.images for p in line], [p.accuracy for p in line]
            colour = style.COLOURS[i % len(style.COLOURS)]
            axis.plot(images, accuracy, marker="osD^v"[i % 5], color=colour, label=model)
            if any(p.deviation is not None for p in line):
                spread = [p.deviation or 0 for p in line]
                low = [a - s for a, s in zip(accuracy, spread, strict=True)]
                high = [a + s for a, s in zip(accuracy, spread, strict=True)]
                axis.fill_between(images, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set_xscale("log")
        ticks = sorted({p.images for p in points})
        axis.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axis.minorticks_off()
        axis.set_xlabel("training images (log scale)")
        axis.set_ylabel("test accuracy")
        axis.set_ylim(0, 1.02)
        axis.grid(axis="y", alpha=0.3)
        axis.set_title(title, loc="left")
        axis.legend(loc="lower right")
    return figure
