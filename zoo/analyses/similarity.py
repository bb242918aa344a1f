"""Other measures of similarity beside linear CKA, between the blocks of each pair of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.base import (
    About,
    Accumulator,
    Array,
    Batch,
    NotApplicable,
    Result,
    Study,
    pair_name,
)
from zoo.analyses.measures import MEASURES, DegenerateError, Measure
from zoo.analyses.places import choose_images, compared_layers, mean_over_places
from zoo.capture.taps import Tap
from zoo.report import style

ABOUT = About(
    name="similarity",
    title="Other measures of similarity",
    shows=(
        "The same question as CKA's, how alike two layers represent the same images, answered "
        "by six other measures on each layer's mean over places (at most 1,024 images). What "
        "all of them show does not hang on the choice of one."
    ),
    reading=(
        "Every panel is one measure, and higher is closer in all of them. Their values cannot be "
        "compared with one another: each has its own floor, printed above its panel, which is "
        "what the best matches fall to when the images of one model are shuffled. Hatched cells "
        "could not be measured and are named below the figure."
    ),
    needs="activations",
    source="Kornblith et al. 2019; Raghu et al. 2017; Morcos et al. 2018; Williams et al. 2021; "
    "Kriegeskorte et al. 2008; Huh et al. 2024",
)

MAX_IMAGES = 1024

Prepared = list[tuple[Any, str]]  # what a measure compares, or why there is nothing to compare
Problem = tuple[int | None, int | None, str]  # a layer of a, a layer of b, and what is wrong


def compare_layers(
    measure: Measure, a: list[NDArray], b: list[NDArray], *, seed: int = 0
) -> tuple[NDArray[np.float64], float, list[Problem]]:
    """Apply a measure to all pairs of two models' layers.

    Args:
        measure: one of `MEASURES`.
        a: features (n, d) of each layer of the first model.
        b: features of each layer of the second, for the same images.
        seed: of the permutation that gives the floor.

    Returns:
        The similarities (layers of a, layers of b), NaN where degenerate; the mean over layers
        of a of what their best match falls to when b's images are shuffled (NaN where there is
        none); and the degenerate layers or pairs of layers, with the reason.
    """
    first = _prepare(measure, a)
    values = np.full((len(a), len(b)), np.nan)
    problems: list[Problem] = [(i, None, why) for i, (_, why) in enumerate(first) if why]
    for j, features in enumerate(b):
        ((other, broken),) = _prepare(measure, [features])
        if broken:
            problems.append((None, j, broken))
            continue
        for i, (own, wrong) in enumerate(first):
            if not wrong:
                values[i, j], why = _attempt(measure.compare, own, other)
                problems += [(i, j, why)] if why else []
    return values, _floor(measure, first, b, values, seed), problems


def _floor(
    measure: Measure, first: Prepared, b: list[NDArray], values: NDArray[np.float64], seed: int
) -> float:
    rows = [i for i in range(len(first)) if np.isfinite(values[i]).any()]
    if not rows:
        return math.nan
    order = np.random.default_rng(seed).permutation(len(b[0]))
    matches = {i: int(np.nanargmax(values[i])) for i in rows}
    shuffled = {j: measure.prepare(b[j][order].astype(np.float64)) for j in set(matches.values())}
    return float(np.mean([measure.compare(first[i][0], shuffled[j]) for i, j in matches.items()]))


def _prepare(measure: Measure, layers: list[NDArray]) -> Prepared:
    return [_attempt(measure.prepare, layer.astype(np.float64)) for layer in layers]


def _attempt(function: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    try:
        return function(*args), ""
    except DegenerateError as error:
        return math.nan, str(error)


def start(study: Study) -> Accumulator:
    """Begin to collect the features of every model's layers.

    Raises:
        NotApplicable: there is one model only.
    """
    if len(study.models) < 2:
        raise NotApplicable("it compares models with each other, and there is only one")
    return _Features(study)


class _Features(Accumulator):
    """Keeps the pooled features of at most 1,024 images."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.models = [s for s, sub in enumerate(study.subjects) if sub.role == "model"]
        self.layers = {s: compared_layers(study.subjects[s]) for s in self.models}
        self.images = choose_images(len(study.images), MAX_IMAGES, study.settings.seed)
        self.pending: dict[tuple[int, str], torch.Tensor] = {}
        self.kept: dict[tuple[int, str], list[NDArray[np.float32]]] = {}

    def taps(self, subject: int) -> Iterable[Tap]:
        return [Tap(name) for name in self.layers.get(subject, ())]

    def observe(self, subject: int, tap: Tap, value: torch.Tensor) -> None:
        pooled = mean_over_places(value.float(), self.study.subjects[subject], tap.layer)
        self.pending[subject, tap.layer] = pooled.clone()

    def end_batch(self, batch: Batch) -> None:
        inside = (self.images >= batch.start) & (self.images < batch.stop)
        rows = torch.from_numpy(self.images[inside] - batch.start)
        for key, pooled in self.pending.items():
            self.kept.setdefault(key, []).append(pooled.cpu()[rows].numpy())
        self.pending.clear()

    def result(self) -> Result:
        subjects = self.study.subjects
        names = {s: subjects[s].name for s in self.models}
        arrays: dict[str, Array] = {}
        metrics: dict[str, float] = {}
        notes = self._caps()
        for a, b in combinations(self.models, 2):
            pair = pair_name(names[a], names[b])
            dims = (f"layer[{names[a]}]", f"layer[{names[b]}]")
            x, y = self._features(a), self._features(b)
            for measure in MEASURES.values():
                values, floor, problems = compare_layers(
                    measure, x, y, seed=self.study.settings.seed
                )
                arrays[f"{measure.name}/{pair}"] = Array(values, dims)
                metrics |= _summary(f"similarity/{pair}/{measure.name}", values, floor)
                notes += self._name(measure, a, b, problems)
        labels = {f"layer[{names[s]}]": self.layers[s] for s in self.models}
        said = tuple(dict.fromkeys(notes))
        used = len(self.images)
        return Result(tuple(names.values()), arrays, metrics, labels, said, used)

    def _features(self, s: int) -> list[NDArray[np.float32]]:
        return [np.concatenate(self.kept[s, name]) for name in self.layers[s]]

    def _caps(self) -> list[str]:
        notes = []
        if len(self.images) < len(self.study.images):
            notes.append(
                f"measured on {len(self.images):,} of {len(self.study.images):,} images, drawn at "
                "random"
            )
        for s in self.models:
            subject, used = self.study.subjects[s], len(self.layers[s])
            if used < len(subject.layers):
                notes.append(f"{subject.name}: {used} of {len(subject.layers)} layers compared")
        return notes

    def _name(self, measure: Measure, a: int, b: int, problems: list[Problem]) -> list[str]:
        """Turn problems into notes; many pairs of layers become one."""
        single: list[str] = []
        pairs: list[str] = []
        for i, j, why in problems:
            sides = [(a, i), (b, j)]
            layers = [
                f"{self.study.subjects[s].name}: layer {self.layers[s][k]}"
                for s, k in sides
                if k is not None
            ]
            note = f"{measure.title}: {' with '.join(layers)}: {why}"
            (single if len(layers) == 1 else pairs).append(note)
        more = f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        return single + [note + more for note in pairs[:1]]


def _summary(prefix: str, values: NDArray[np.float64], floor: float) -> dict[str, float]:
    defined = np.isfinite(values).any(axis=1)
    best = np.nanmax(values[defined], axis=1).mean() if defined.any() else math.nan
    metrics = {f"{prefix}_best_match_mean": float(best), f"{prefix}_permuted_images": floor}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def draw(result: Result) -> dict[str, Figure]:
    """Draw one heat map a measure for each pair of models."""
    return {
        f"similarity-{pair_name(a, b)}": _panels(result, a, b)
        for a, b in combinations(result.models, 2)
    }


def _panels(result: Result, a: str, b: str) -> Figure:
    pair = pair_name(a, b)
    with style.styled():
        figure = style.new_figure(style.WIDTH, 4.9)
        axes = figure.subplots(2, 3)
        for axis, measure in zip(axes.ravel(), MEASURES.values(), strict=True):
            panel = style.HeatMap(
                values=result.arrays[f"{measure.name}/{pair}"].values,
                rows=result.labels[f"layer[{a}]"],
                columns=result.labels[f"layer[{b}]"],
                row_title=style.shorten(a, 20),
                column_title=style.shorten(b, 20),
            )
            image = style.heat_map(axis, panel, low=measure.low, high=measure.high)
            floor = result.metrics.get(f"similarity/{pair}/{measure.name}_permuted_images")
            axis.set_title(_title(measure, floor), loc="left", fontsize=7.5)
            place = axis.inset_axes((1.04, 0.0, 0.06, 1.0))
            bar = figure.colorbar(image, cax=place, extend=_beyond(panel.values, measure))
            bar.set_label(measure.label, fontsize=6.5)
            bar.ax.tick_params(labelsize=6)
        for axis in axes[0]:
            axis.set(xlabel="", xticklabels=[])
        for axis in axes[:, 1:].ravel():
            axis.set(ylabel="", yticklabels=[])
    return figure


def _title(measure: Measure, floor: float | None) -> str:
    if floor is None:
        return measure.title
    return f"{measure.title}\nshuffled images: {round(floor, 2) + 0:.2f}"  # + 0: no "-0.00"


def _beyond(values: NDArray[np.float64], measure: Measure) -> str:
    """Say at which ends of its range a figure's colours stand for values beyond it too."""
    low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    ends = {(True, False): "min", (False, True): "max", (True, True): "both"}
    return ends.get((bool(low < measure.low), bool(high > measure.high)), "neither")
