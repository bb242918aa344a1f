"""Other measures of similarity beside linear CKA, between the blocks of each pair of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.image_sets import metrics_of
from zoo.capture.hook_points import HookPoint
from zoo.figures import style
from zoo.measures.intervals import (
    half_sample_interval,
    jackknife_interval,
    mean_defined,
    parts_interval,
    selection_interval,
)
from zoo.measures.layers import (
    LayerSimilarities,
    Problem,
    compare_layers,
    compare_same_layers,
)
from zoo.measures.permutation import best_matches
from zoo.measures.table import MEASURES, Measure
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.axes import Scale, estimate, layer_axis, select
from zoo.study.networks import Study, layer_labels
from zoo.study.results import SIGNED, TRAINED, Metric, Result
from zoo.study.spatial_layout import (
    choose_images,
    compared_layers,
    mean_point,
    name_copies,
)

INTERVALS: dict[Callable[..., NDArray], str] = {  # how an interval was found, in words
    jackknife_interval: "jackknife over images",
    half_sample_interval: "balanced halves of the images",
    parts_interval: "halves and fifths of the images",
    selection_interval: "balanced halves of the images, and other numbers of directions",
}

ABOUT = About(
    name="similarity",
    title="Other measures of similarity",
    shows=(
        "The same question as CKA's, how alike two layers represent the same images, answered by "
        "six other measures on each layer's mean over places (at most 1,024 images)."
    ),
    reading=(
        "Every panel is one measure, and higher is closer in all of them. A pattern that all of "
        "them show does not depend on the choice of a measure. Where they disagree, what one of "
        "them shows may be a property of that measure. Their values cannot be compared with one "
        "another. Each has its own baseline, printed above its panel and subtracted in it: the "
        "value of the best matches when the images of one model are shuffled. Each panel "
        "has its own colours; 0 is its baseline. Hatched cells could not be measured and are named "
        "below the figure."
    ),
    needs="activations",
    source="Kornblith et al. 2019; Raghu et al. 2017; Morcos et al. 2018; Williams et al. 2021; "
    "Kriegeskorte et al. 2008; Huh et al. 2024",
    settings=("layers", "references", "seed"),
    captions={
        "similarity-{}": "Other measures between the layers of {}, each with its baseline above.",
    },
    metrics={
        f"{measure.name}_{what}": f"{measure.title}: {words}"
        for measure in MEASURES.values()
        for what, words in {
            "mean_best_match": "each layer's best match, mean",
            "permuted_images": "with shuffled images, mean",
            "same_layer": "with another seed, same layer, mean",
        }.items()
    }
    | {
        f"{measure.name}_best_match_p": f"{measure.title}: share of permutations with a mean best "
        "match as high (p)"
        for measure in MEASURES.values()
    }
    | {
        name: text
        for measure in MEASURES.values()
        for name, text in metrics_of(measure.name, measure.title).items()
    },
    unit=SIGNED,
    units={
        f"{name}_{share}": "" for name in MEASURES for share in ("best_match_p", "set_same_match")
    },
)

MAX_IMAGES = 1024
PANEL = 1.4  # inches: the side of a heat map
COLUMNS = 3  # of heat maps in a figure
LEAST_COLOUR = 0.1  # the range that colours span at least: less would paint noise


def start(study: Study) -> Accumulator:
    """Begin to collect the features of every model's layers.

    Raises:
        NotApplicable: there is one model only, or one only whose layers can be watched.
    """
    if sum(bool(network.layers) for network in study.compared) < 2:
        what = " with layers that can be watched" if len(study.compared) > 1 else ""
        raise NotApplicable(f"it compares models with each other, and there is only one{what}")
    return _Features(study)


class _Features(Accumulator):
    """Keeps the pooled features of at most 1,024 images."""

    gathers = ("kept",)

    def __init__(self, study: Study) -> None:
        self.study = study
        self.models = [s for s, n in enumerate(study.networks) if n.compared and n.layers]
        self.layers = {s: compared_layers(study.networks[s]) for s in self.models}
        named = {study.networks[s].name: s for s in self.models}
        # Another seed of a model is its seed baseline, where it has the same layers.
        self.seeds = {
            s: named[network.of]
            for s, network in enumerate(study.networks)
            if not network.compared
            and network.state == TRAINED
            and compared_layers(network) == self.layers[named[network.of]]
        }
        self.layers |= {s: self.layers[of] for s, of in self.seeds.items()}
        self.images = choose_images(len(study.images), MAX_IMAGES, study.settings.seed)
        self.pending: dict[tuple[int, str], torch.Tensor] = {}
        self.kept: dict[tuple[int, str], list[NDArray[np.float32]]] = {}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        network = self.study.networks[index]
        return [mean_point(network, name) for name in self.layers.get(index, ())]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        self.pending[index, hook_point.layer] = value

    def end_batch(self, batch: Batch) -> None:
        rows = torch.from_numpy(self.rows_of(self.images, batch.stop - batch.start))
        for key, pooled in self.pending.items():
            self.kept.setdefault(key, []).append(pooled.cpu()[rows].numpy())
        self.pending.clear()

    def result(self) -> Result:
        networks = self.study.networks
        rows = [(networks[s], layer) for s in self.models for layer in self.layers[s]]
        cells = {
            s: [i for i, (network, _) in enumerate(rows) if network is networks[s]]
            for s in self.models
        }
        values = {m: np.full((3, len(rows), len(rows)), np.nan) for m in MEASURES}
        metrics: list[Metric] = []
        notes = self._caps()
        named: dict[str, list[str]] = {}

        def name(measure: Measure, a: int, b: int, problems: list[Problem]) -> None:
            for text in self._name(a, b, problems):
                if measure.title not in named.setdefault(text, []):
                    named[text].append(measure.title)

        for a, b in combinations(self.models, 2):
            pair = networks[a].name, networks[b].name
            x, y = self._features(a), self._features(b)
            found = compare_layers(list(MEASURES.values()), x, y, seed=self.study.settings.seed)
            for measure in MEASURES.values():
                similar, at = found[measure.name], np.ix_(cells[a], cells[b])
                parts = similar.values, *similar.interval
                for kept, part in zip(values[measure.name], parts, strict=True):
                    kept[at], kept.T[at] = part, part
                metrics += _summary(measure.name, similar, *pair)
                name(measure, a, b, similar.problems)
        for s, of in self.seeds.items():
            x, y = self._features(of), self._features(s)
            for measure in MEASURES.values():
                same, problems = compare_same_layers(measure, x, y)
                name(measure, of, s, problems)
                pair = networks[of].name, networks[s].name
                metrics.append(Metric(f"{measure.name}_same_layer", same, *pair))
        for text, titles in named.items():
            by = "all measures" if len(titles) == len(MEASURES) else ", ".join(titles)
            notes.append(f"{text} ({by})")
        variables = {
            name: of
            for measure in MEASURES.values()
            for name, of in estimate(
                measure.name, ("layer", "layer_b"), values[measure.name],
                kind=INTERVALS[measure.interval_from],
                scale=Scale(measure.title, measure.low, measure.high),
            ).items()
        }  # fmt: skip
        data = xr.Dataset(variables, layer_axis(rows) | layer_axis(rows, "layer_b"))
        return Result(data, metrics=tuple(metrics), notes=tuple(notes), images=len(self.images))

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
            network, used = self.study.networks[s], len(self.layers[s])
            if used < len(network.layers):
                notes.append(f"{network.name}: {used} of {len(network.layers)} layers compared")
        return notes

    def _name(self, a: int, b: int, problems: list[Problem]) -> list[str]:
        """Say in words what is wrong with layers; many pairs of layers become one text."""
        single: list[str] = []
        pairs: list[str] = []
        for i, j, why in problems:
            sides = [(a, i), (b, j)]
            layers = [
                f"{self.study.networks[s].name}: {self.study.networks[s].label(self.layers[s][k])}"
                for s, k in sides
                if k is not None
            ]
            if len(layers) == 1:
                single.append(f"{layers[0]} {why}")
            else:
                pairs.append(f"{' with '.join(layers)}: {why}")
        more = f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        return single + [note + more for note in pairs[:1]]


def _summary(measure: str, found: LayerSimilarities, a: str, b: str) -> list[Metric]:
    best = [mean_defined(best_matches(values)) for values in (found.values, found.values.T)]
    return [
        Metric(f"{measure}_mean_best_match", best[0], a, b, pair="directed"),
        Metric(f"{measure}_mean_best_match", best[1], b, a, pair="directed"),
        Metric(f"{measure}_permuted_images", found.permuted, a, b),
        *(
            Metric(f"{measure}_best_match_p", p, *of, pair="directed")
            for of, p in zip(((a, b), (b, a)), found.p, strict=True)
        ),
    ]


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw one heat map per measure for each pair of models."""
    pairs = combinations([name for name in compared if name in result.networks], 2)
    return [Drawing("similarity-{}", _panels(result, a, b), (a, b)) for a, b in pairs]


def _panels(result: Result, a: str, b: str) -> Figure:
    cells = {m: select(result.data[m], a, b) for m in MEASURES}
    first = next(iter(cells.values()))
    rows, columns = (
        layer_labels(first[f"name{end}"].values, first[f"role{end}"].values) for end in ("", "_b")
    )
    left = 0.25 + style.widest_label(rows, PANEL)
    below = 0.25 + style.widest_label(columns, PANEL)
    pitch = (style.WIDTH - left) / COLUMNS, PANEL + 0.45
    down = -(-len(MEASURES) // COLUMNS)
    with style.styled():
        figure = Figure(figsize=(style.WIDTH, below + down * pitch[1]))
        for i, measure in enumerate(MEASURES.values()):
            row, column = divmod(i, COLUMNS)
            corner = (left + column * pitch[0], below + (down - 1 - row) * pitch[1])
            axis = style.axes_at(figure, corner, (PANEL, PANEL))
            lowest = i + COLUMNS >= len(MEASURES)
            permuted = result.metric(f"{measure.name}_permuted_images", a, b)
            above = cells[measure.name].values - (permuted or 0)
            panel = style.HeatMap(
                values=above,
                rows=rows if column == 0 else (),
                columns=columns if lowest else (),
                row_title=style.shorten(a, 20) if column == 0 else "",
                column_title=style.shorten(b, 20) if lowest else "",
            )
            known = above[np.isfinite(above)]
            low, high = float(known.min(initial=0)), float(known.max(initial=LEAST_COLOUR))
            image = style.heat_map(axis, panel, low=low, high=high)
            axis.set_title(_title(measure, permuted), loc="left", fontsize=7.5)
            bar = style.colour_bar(
                figure, image, (corner[0] + PANEL + 0.08, corner[1]), PANEL,
                label=measure.label,
            )  # fmt: skip
            bar.ax.yaxis.label.set_fontsize(6.5)
            bar.ax.tick_params(labelsize=6)
    return figure


def _title(measure: Measure, permuted: float | None) -> str:
    if permuted is None:
        return measure.title
    shown = f"{round(permuted, 2) + 0:.2f}".replace("-", "−")  # + 0: no "-0.00"
    return f"{measure.title}\nminus its baseline of {shown}"
