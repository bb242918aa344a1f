"""The gap study's result: the share of the gap that each change closes, as table and figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.config import GapConfig
from zoo.errors import listed
from zoo.experiments.gap import Run
from zoo.figures import style
from zoo.measures.intervals import SHARE, ratio_of_means, seed_interval

# Of the shares, in per cent: an interval can be as wide as the gap is unsure.
SHOWN = (-100.0, 200.0)


@dataclass(frozen=True)
class Share:
    """A model on `images` images over `seeds` seeds, and the share of the gap that it closes.

    `accuracy` is the mean over seeds, with its 95 % interval. `share` is 0 for the baseline and 1
    for the reference; its interval is over the seeds, pair by pair.
    """

    model: str
    images: int
    seeds: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    share: float
    share_low: float
    share_high: float
    reference: str
    gap: float
    learning_rate: float
    steps: int
    parameters: int


def summarise(runs: Sequence[Run], gap: GapConfig) -> list[Share]:
    """Return a row for each model and number of images that has a baseline and a reference.

    Of the references, the one that counts at a number of images has the best mean validation
    accuracy there. Seeds that lack one end of the gap are left out.
    """
    found: dict[int, dict[str, dict[int, Run]]] = {}
    for run in runs:
        found.setdefault(run.images, {}).setdefault(run.model, {})[run.seed] = run
    rows = []
    for images, models in sorted(found.items()):
        ends = [name for name in (gap.baseline, *gap.references) if name in models]
        if len(ends) < 2 or ends[0] != gap.baseline:
            continue
        common = set.intersection(*(set(models[name]) for name in ends))
        if not common:
            continue
        reference = max(
            ends[1:],
            key=lambda name: statistics.mean(models[name][seed].validation for seed in common),
        )
        for model, by_seed in models.items():
            if seeds := sorted(common & set(by_seed)):
                rows.append(_share(models, model, seeds, gap.baseline, reference, images))
    return rows


def _share(
    models: dict[str, dict[int, Run]],
    model: str,
    seeds: list[int],
    baseline: str,
    reference: str,
    images: int,
) -> Share:
    own, base, best = (
        np.array([models[name][seed].test for seed in seeds])
        for name in (model, baseline, reference)
    )
    accuracy, low, high = seed_interval(own, SHARE).tolist()
    share, share_low, share_high = ratio_of_means(own - base, best - base)
    first = models[model][seeds[0]]
    return Share(
        model=model,
        images=images,
        seeds=len(seeds),
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        share=share,
        share_low=share_low,
        share_high=share_high,
        reference=reference,
        gap=float((best - base).mean()),
        learning_rate=first.learning_rate,
        steps=first.steps,
        parameters=first.parameters,
    )


def as_markdown(rows: Sequence[Share], gap: GapConfig) -> str:
    """Return a table a person can read, and below it what others have published."""
    lines = [
        f"Accuracy on {gap.test_images:,} test images, and the share of the gap closed: means over "
        "seeds, with 95 % intervals.",
        "",
        "| images | model | seeds | accuracy | share of the gap closed | steps | learning rate |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        accuracy = _interval(r.accuracy, r.accuracy_low, r.accuracy_high, "{:.3f}")
        share = _interval(r.share, r.share_low, r.share_high, "{:.0%}")
        lines.append(
            f"| {r.images:,} | {r.model} | {r.seeds} | {accuracy} | {share} | {r.steps:,} "
            f"| {r.learning_rate:g} |"
        )
    if gap.published:
        lines += ["", "Published, not run here:", "", "| images | model | accuracy | source |"]
        lines += ["|---:|---|---:|---|"]
        lines += [
            f"| {p.images:,} | {p.model} | {p.accuracy:.3f} | {p.source} |" for p in gap.published
        ]
    return "\n".join(lines) + "\n"


def _interval(value: float, low: float, high: float, form: str) -> str:
    if math.isnan(value):
        return "(there is no gap)"
    if math.isinf(low) or math.isinf(high):
        return f"{form.format(value)} (the gap is not clear)"
    if math.isnan(low):
        return f"{form.format(value)} (no interval)"
    return f"{form.format(value)} ({form.format(low)} to {form.format(high)})"


def draw(rows: Sequence[Share], gap: GapConfig) -> Figure:
    """Draw accuracy, and beside it the share of the gap closed; a mark for each number of images.

    The models are sorted by their share on the most images. Where an interval goes on beyond the
    panel of shares, an arrow at the panel's edge says so.
    """
    sizes = sorted({row.images for row in rows})
    order = sorted(rows, key=lambda row: (row.images, row.share), reverse=True)
    models = list(dict.fromkeys(row.model for row in order))[::-1]
    with style.styled():
        figure = style.new_figure(height=1.3 + 0.26 * len(models))
        accuracy, share = figure.subplots(1, 2, sharey=True)
        for i, images in enumerate(sizes):
            own = [row for row in rows if row.images == images]
            closed = [row for row in own if row.model != gap.baseline]
            look: Any = {
                "fmt": style.marker(i),
                "markersize": 4,
                "linewidth": 1,
                "color": style.COLOURS[i % len(style.COLOURS)],
            }

            def heights(some: Sequence[Share], i: int = i) -> list[float]:
                return [models.index(r.model) + 0.5 * ((i + 0.5) / len(sizes) - 0.5) for r in some]

            accuracy.errorbar(
                [100 * row.accuracy for row in own],
                heights(own),
                xerr=_ends(
                    [(row.accuracy, row.accuracy_low, row.accuracy_high) for row in own], 100
                ),
                label=f"{images:,} images",
                **look,
            )
            share.errorbar(
                [100 * row.share for row in closed],
                heights(closed),
                xerr=_ends([(row.share, row.share_low, row.share_high) for row in closed], 100),
                **look,
            )
        for place in (0, 100):
            share.axvline(place, color="0.6", linewidth=0.8, zorder=0)
        cut = _mark_what_is_cut(share)
        accuracy.set_yticks(range(len(models)), models)
        accuracy.invert_yaxis()
        accuracy.set_xlabel("test accuracy (%)")
        share.set_xlabel(
            f"share of the gap closed (%)\n(0: {gap.baseline}, 100: the better CNN)"
            + "\narrows: the interval goes on" * cut
        )
        trained = listed([f"{images:,}" for images in sizes])
        figure.suptitle(
            f"Trained on {trained} images, tested on {gap.test_images:,}: means and 95 % intervals "
            f"over {max(row.seeds for row in rows)} seeds"
        )
        if len(sizes) > 1:
            figure.legend(loc="outside lower center", ncols=len(sizes))
    return figure


def _mark_what_is_cut(axis: Axes) -> bool:
    """Limit a panel of shares, with an arrow where an interval goes on; say whether one does."""
    low, high = axis.get_xlim()
    limits = max(SHOWN[0], low), min(SHOWN[1], high)
    axis.set_xlim(limits)
    cut = False
    for of_size in (c for c in axis.containers if isinstance(c, ErrorbarContainer)):
        marks, _, (bars,) = of_size.lines
        # Where there is no gap, a bar has no ends.
        for (start, y), (end, _) in filter(len, bars.get_segments()):
            for place, arrow, goes_on in (
                (limits[0], "<", start < limits[0]),
                (limits[1], ">", end > limits[1]),
            ):
                if goes_on:
                    axis.plot(place, y, arrow, color=marks.get_color(), markersize=4, clip_on=False)
                    cut = True
    return cut


def _ends(values: Sequence[tuple[float, float, float]], unit: float = 1.0) -> NDArray[np.float64]:
    """Return how far bars reach from a value; of one seed, or of no clear gap, there is none."""
    ends = unit * np.array([[value - low, high - value] for value, low, high in values]).T
    return np.where(np.isfinite(ends), ends.clip(min=0), 0)  # an end may be rounded past its value
