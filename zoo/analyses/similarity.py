"""Other measures of similarity beside linear CKA, between the blocks of each pair of models."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About
from zoo.capture.hook_points import HookPoint
from zoo.figures import style
from zoo.measures.layers import (
    LayerSimilarities,
    Problem,
    compare_layers,
    compare_same_layers,
)
from zoo.measures.table import MEASURES, Measure
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.networks import Study
from zoo.study.results import Array, Result, Scale, pair_name
from zoo.study.spatial_layout import (
    choose_images,
    compared_layers,
    mean_over_places,
    name_copies,
)

ABOUT = About(
    name="similarity",
    title="Other measures of similarity",
    shows=(
        "The same question as CKA's, how alike two layers represent the same images, answered "
        "by six other measures on each layer's mean over places (at most 1,024 images)."
    ),
    reading=(
        "Every panel is one measure, and higher is closer in all of them. A pattern that all of "
        "them show does not depend on the choice of a measure. Where they disagree, be warned: "
        "what one of them shows is then a finding about that measure too. Their values cannot be "
        "compared with one another: each has its own floor, printed above its panel, which is "
        "what the best matches fall to when the images of one model are shuffled. Hatched cells "
        "could not be measured and are named below the figure."
    ),
    needs="activations",
    source="Kornblith et al. 2019; Raghu et al. 2017; Morcos et al. 2018; Williams et al. 2021; "
    "Kriegeskorte et al. 2008; Huh et al. 2024",
    settings=("layers", "references", "seed"),
    captions={
        "similarity-{}": "Six measures between the layers of {}, each with its floor above it.",
    },
)

MAX_IMAGES = 1024
PANEL = 1.4  # inches: the side of a heat map
COLUMNS = 3  # of heat maps in a figure


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
        # Another seed of a model is its ceiling, where it has the same layers.
        self.seeds = {
            s: sub.of
            for s, sub in enumerate(study.subjects)
            if sub.role == "seed" and compared_layers(sub) == self.layers[sub.of]
        }
        self.layers |= {s: self.layers[of] for s, of in self.seeds.items()}
        self.images = choose_images(len(study.images), MAX_IMAGES, study.settings.seed)
        self.pending: dict[tuple[int, str], torch.Tensor] = {}
        self.kept: dict[tuple[int, str], list[NDArray[np.float32]]] = {}

    def hook_points(self, subject: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.layers.get(subject, ())]

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
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
        named: dict[str, list[str]] = {}

        def name(measure: Measure, a: int, b: int, problems: list[Problem]) -> None:
            for text in self._name(a, b, problems):
                if measure.title not in named.setdefault(text, []):
                    named[text].append(measure.title)

        for a, b in combinations(self.models, 2):
            pair = pair_name(names[a], names[b])
            dims = (f"layer[{names[a]}]", f"layer[{names[b]}]")
            x, y = self._features(a), self._features(b)
            found = compare_layers(list(MEASURES.values()), x, y, seed=self.study.settings.seed)
            for measure in MEASURES.values():
                similar = found[measure.name]
                arrays[f"{measure.name}/{pair}"] = Array(similar.values, dims)
                for end, values in zip(("low", "high"), similar.interval, strict=True):
                    arrays[f"{end}/{measure.name}/{pair}"] = Array(values, dims)
                metrics |= _summary(f"similarity/{pair}/{measure.name}", similar)
                name(measure, a, b, similar.problems)
        for s, of in self.seeds.items():
            x, y = self._features(of), self._features(s)
            for measure in MEASURES.values():
                ceiling, problems = compare_same_layers(measure, x, y)
                name(measure, of, s, problems)
                if math.isfinite(ceiling):
                    metrics[f"similarity/{names[of]}/{measure.name}_other_seed_same_layer"] = (
                        ceiling
                    )
        labels = {f"layer[{names[s]}]": self.layers[s] for s in self.models}
        for text, titles in named.items():
            by = "all measures" if len(titles) == len(MEASURES) else ", ".join(titles)
            notes.append(f"{text} ({by})")
        used = len(self.images)
        scales = {m.name: Scale(m.title, m.low, m.high) for m in MEASURES.values()}
        return Result(tuple(names.values()), arrays, metrics, labels, tuple(notes), used, scales)

    def _features(self, s: int) -> list[NDArray[np.float32]]:
        return [np.concatenate(self.kept[s, name]) for name in self.layers[s]]

    def _caps(self) -> list[str]:
        notes = name_copies(self.study.images)
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

    def _name(self, a: int, b: int, problems: list[Problem]) -> list[str]:
        """Say in words what is wrong with layers; many pairs of layers become one text."""
        single: list[str] = []
        pairs: list[str] = []
        for i, j, why in problems:
            sides = [(a, i), (b, j)]
            layers = [
                f"{self.study.subjects[s].name}: layer {self.layers[s][k]}"
                for s, k in sides
                if k is not None
            ]
            if len(layers) == 1:
                single.append(f"{layers[0]} {why}")
            else:
                pairs.append(f"{' with '.join(layers)}: {why}")
        more = f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        return single + [note + more for note in pairs[:1]]


def _summary(prefix: str, found: LayerSimilarities) -> dict[str, float]:
    values, floor = found.values, found.floor
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
    rows, columns = (result.labels[f"layer[{name}]"] for name in (a, b))
    left = 0.25 + style.widest_label(rows, PANEL)
    below = 0.25 + style.widest_label(columns, PANEL)
    pitch = (style.WIDTH - left) / COLUMNS, PANEL + 0.45
    lines = math.ceil(len(MEASURES) / COLUMNS)
    with style.styled():
        figure = Figure(figsize=(style.WIDTH, below + lines * pitch[1]))
        for i, measure in enumerate(MEASURES.values()):
            row, column = divmod(i, COLUMNS)
            lowest = i + COLUMNS >= len(MEASURES)
            corner = (left + column * pitch[0], below + (lines - 1 - row) * pitch[1])
            axis = style.axes_at(figure, corner, (PANEL, PANEL))
            panel = style.HeatMap(
                values=result.arrays[f"{measure.name}/{pair}"].values,
                rows=rows if column == 0 else (),
                columns=columns if lowest else (),
                row_title=style.shorten(a, 20) if column == 0 else "",
                column_title=style.shorten(b, 20) if lowest else "",
            )
            ends = result.scales[measure.name].ends
            image = style.heat_map(axis, panel, low=ends[0], high=ends[1])
            floor = result.metrics.get(f"similarity/{pair}/{measure.name}_permuted_images")
            axis.set_title(_title(measure, floor), loc="left", fontsize=7.5)
            bar = style.colour_bar(
                figure, image, (corner[0] + PANEL + 0.08, corner[1]), PANEL,
                label=measure.label, extend=_beyond(panel.values, *ends),
            )  # fmt: skip
            bar.ax.yaxis.label.set_fontsize(6.5)
            bar.ax.tick_params(labelsize=6)
    return figure


def _title(measure: Measure, floor: float | None) -> str:
    if floor is None:
        return measure.title
    return f"{measure.title}\nshuffled images: {round(floor, 2) + 0:.2f}"  # + 0: no "-0.00"


def _beyond(values: NDArray[np.float64], low: float, high: float) -> str:
    """Say at which ends of a range a figure's colours stand for values beyond it too."""
    least, most = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    ends = {(True, False): "min", (False, True): "max", (True, True): "both"}
    return ends.get((bool(least < low), bool(most > high)), "neither")
