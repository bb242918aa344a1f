"""Accuracy against the amount of training data (Zhu et al. 2023; Raghu et al. 2021, Fig. 13)."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from zoo.figures import style


def over_seeds(trials: pd.DataFrame) -> pd.DataFrame:
    """Average trained variants over seeds, in the order of their first appearance.

    Args:
        trials: a row per variant: `model`, `subset`, `seed`, the `images` that it was trained on,
            test `accuracy` (0..1), `parameters`, `images_seen`, `seconds`.

    Returns:
        A row per model and subset: means of `accuracy` and `seconds`, the number of `seeds`, and
        the sample `deviation` of the accuracy, NaN for a single seed.
    """
    groups = trials.groupby(["model", "subset"], sort=False)
    return groups.agg(
        images=("images", "first"),
        seeds=("seed", "size"),
        accuracy=("accuracy", "mean"),
        deviation=("accuracy", "std"),
        parameters=("parameters", "first"),
        images_seen=("images_seen", "first"),
        seconds=("seconds", "mean"),
    ).reset_index()


def gaps(points: pd.DataFrame, better: str, worse: str) -> dict[str, float]:
    """Return, for each subset, the accuracy of one model minus that of another."""
    of = {model: own.set_index("subset")["accuracy"] for model, own in points.groupby("model")}
    if better not in of or worse not in of:
        return {}
    found = (of[better] - of[worse]).dropna()
    return {s: float(found[s]) for s in dict.fromkeys(points["subset"]) if s in found}


def as_markdown(points: pd.DataFrame, test_images: int) -> str:
    """Return a table a person can read."""
    lines = [
        f"Test accuracy on {test_images} images: mean ± standard deviation over seeds.",
        "",
        "| model | subset | training images | accuracy | seeds | parameters | images seen | time |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for p in points.itertuples():
        spread = "" if math.isnan(p.deviation) else f" ± {p.deviation:.3f}"
        lines.append(
            f"| {p.model} | {p.subset} | {p.images:,} | {p.accuracy:.3f}{spread} | {p.seeds} "
            f"| {p.parameters:,} | {p.images_seen:,} | {p.seconds:.0f} s |"
        )
    return "\n".join(lines) + "\n"


def draw(points: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy against training images (log axis): one line per model, a band over seeds."""
    with style.styled():
        figure = style.new_figure(width=4.6, height=3.0)
        axis = figure.subplots()
        for i, (model, line) in enumerate(points.groupby("model", sort=False)):
            line = line.sort_values("images")  # noqa: PLW2901
            images, accuracy, spread = line["images"], line["accuracy"], line["deviation"]
            colour = style.COLOURS[i % len(style.COLOURS)]
            axis.plot(images, accuracy, marker=style.marker(i), color=colour, label=model)
            if spread.notna().any():
                low, high = accuracy - spread.fillna(0), accuracy + spread.fillna(0)
                axis.fill_between(images, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set_xscale("log")
        ticks = sorted(set(points["images"]))
        axis.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axis.minorticks_off()
        axis.set_xlabel("training images (log scale)")
        axis.set_ylabel("test accuracy")
        axis.set_ylim(0, 1.02)
        axis.grid(axis="y", alpha=0.3)
        axis.set_title(title, loc="left")
        axis.legend(loc="lower right")
    return figure
