"""Accuracy, and whether two models fail on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.figures import style
from zoo.measures.agreement import error_consistency_interval
from zoo.measures.intervals import SHARE, mean_interval, paired_difference, share_interval
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.answers import predictions, rated_networks
from zoo.study.axes import column, estimate, variable
from zoo.study.networks import Study
from zoo.study.results import NO_ANSWER, SIGNED, TRAINED, Metric, Result
from zoo.study.seeds import accuracy_difference

ABOUT = About(
    name="accuracy",
    title="Accuracy and shared errors",
    shows=(
        "How often each model is right, overall and for each class, and whether the models are "
        "wrong on the same images more often than two independent models would be."
    ),
    reading=(
        "Each dot is the share of a class's images that a model gets right; the bar is the 95 % "
        "interval for that many images, and over seeds where a model has several. Where two bars "
        "do not overlap, the difference is unlikely to be chance; where they do, it may still be "
        "more than chance. The test of two models is their paired difference, on the same images."
    ),
    needs="outputs",
    source=(
        "Zhu et al. 2023, table of accuracies; paired difference: Bonett & Price 2012; error "
        "consistency: Geirhos et al. 2020"
    ),
    captions={
        "accuracy-by-class": "Accuracy on the images of each class, with 95 % intervals.",
    },
    metrics={
        "accuracy": "accuracy",
        "difference": "accuracy of the first minus the second",
        "same_prediction": "share of images with the same prediction",
        "error_consistency": "error consistency (κ: 0 independent, 1 the same)",
    },
    units=dict.fromkeys(("difference", "error_consistency"), SIGNED),
)


def name_undecided(name: str, predicted: NDArray[np.int64]) -> list[str]:
    """Return a note where a model's outputs are not numbers; such an image counts as wrong."""
    lost = int((predicted == NO_ANSWER).sum())
    said = f"{name}: on {lost} of {len(predicted)} images its outputs are not numbers; "
    return [said + "they count as wrong"] if lost else []


def start(study: Study) -> Accumulator:
    """Begin; there must be labels, and a model that knows their classes."""
    rated, notes = rated_networks(study, "not rated")
    known = {network.name for network in rated.values()}
    # Before training, and of other seeds, they are measured alike: claims are tested on them.
    before = [s for s, n in enumerate(study.networks) if not n.compared and n.of in known]
    return _Accuracy(study, (*rated, *before), notes)


class _Accuracy(Accumulator):
    gathers = ("predicted",)

    def __init__(self, study: Study, rated: Sequence[int], notes: Sequence[str]) -> None:
        self.study, self.rated, self.notes = study, rated, notes
        self.predicted: dict[int, list[NDArray[np.int64]]] = {s: [] for s in self.rated}

    def end_batch(self, batch: Batch) -> None:
        for s in self.rated:
            self.predicted[s].append(predictions(batch.logits[s]))

    def result(self) -> Result:
        networks, classes = self.study.networks, self.study.class_names
        labels = np.asarray(self.study.labels)
        notes = list(self.notes)
        if absent := [name for i, name in enumerate(classes) if i not in labels]:
            shown = ", ".join(absent[:8]) + (" …" if len(absent) > 8 else "")
            notes.append(f"{len(absent)} of {len(classes)} classes have no image: {shown}")
        described = [networks[s].describe() for s in self.rated]
        names = [network.name for network in described]
        predicted = np.stack([np.concatenate(self.predicted[s]) for s in self.rated])
        right = predicted == labels
        asked = sum(networks[s].compared for s in self.rated)  # they come first
        for name, row in zip(names[:asked], predicted, strict=False):
            notes += name_undecided(name, row)
        by_class = np.stack([_by_class(row, labels, len(classes)) for row in right], axis=1)
        dims, kind = ("network", "class"), "Wilson over images"
        data = xr.Dataset(
            {"predicted": variable(("network", "image"), predicted)}
            | estimate("class_accuracy", dims, by_class, kind=kind),
            {
                "network": column(names),
                "label": ("image", labels),
                "class": column(classes),
            },
        )
        metrics = [
            Metric.of("accuracy", share_interval(row), name)
            for name, row in zip(names, right, strict=True)
        ]
        metrics += _pairs(names[:asked], right, predicted)
        return Result(data, metrics=tuple(metrics), notes=tuple(notes))


def _pairs(
    names: Sequence[str], right: NDArray[np.bool_], predicted: NDArray[np.int64]
) -> Iterator[Metric]:
    """Yield what two networks' answers have in common, and how far apart they are."""
    for i, j in combinations(range(len(names)), 2):
        a, b = names[i], names[j]
        yield Metric.of("difference", paired_difference(right[i], right[j]), a, b, pair="signed")
        yield Metric("same_prediction", float((predicted[i] == predicted[j]).mean()), a, b)
        kappa = error_consistency_interval(right[i], right[j])
        yield Metric.of("error_consistency", kappa, a, b)


def _by_class(
    right: NDArray[np.bool_], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Return (3, classes): accuracy and its interval; NaN for a class without images."""
    values = np.full((3, classes), np.nan)
    for label in np.unique(labels):
        values[:, label] = share_interval(right[labels == label])
    return values


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw every model's accuracy for each class: of several seeds, their mean."""
    rated = [name for name in compared if name in result.networks]
    classes = [str(name) for name in result.data["class"].values]
    shown = range(min(len(classes), 20))
    with style.styled():
        difference = _difference(result, rated)
        rows = math.ceil(len(rated) / 2) + bool(difference)
        figure, (axis,) = style.line_panels(
            size=(style.WIDTH - 0.65, 1.9), above=0.34 + style.LEGEND_ROW * rows
        )
        width, several = 0.7 / max(1, len(rated)), False
        for i, name in enumerate(rated):
            seeds = _seeds(result, name)
            several = several or len(seeds) > 1
            of_seeds = result.data.sel(network=seeds).isel({"class": list(shown)})
            if len(seeds) > 1:
                accuracy, low, high = mean_interval(of_seeds["class_accuracy"].values, SHARE)
            else:
                accuracy = of_seeds["class_accuracy"].values[0]
                low, high = of_seeds["class_accuracy_ci"].values[0].T
            rates = [result.metric("accuracy", seed) or 0 for seed in seeds]
            of = f", {len(seeds)} seeds" if len(seeds) > 1 else ""
            positions = np.arange(len(shown)) + (i - (len(rated) - 1) / 2) * width
            axis.errorbar(
                positions,
                accuracy,
                yerr=np.maximum([accuracy - low, high - accuracy], 0),
                fmt=style.marker(i),
                markersize=3.5,
                linewidth=1,
                color=style.colour(i),
                label=f"{name} ({100 * fmean(rates):.1f} % in all{of})",
            )
        n = result.data.sizes["image"]
        axis.set_xticks(list(shown), [style.shorten(classes[i], 12) for i in shown])
        axis.set_xlabel(
            "class" + (f" (the first 20 of {len(classes)})" if len(classes) > 20 else "")
        )
        axis.set_ylabel("accuracy")
        axis.set_ylim(-0.03, 1.03)
        over = ", over seeds where there are several" if several else ""
        axis.set_title(f"test accuracy by class, {n:,} images, 95 % intervals{over}", loc="left")
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=2, title=difference)
    return [Drawing("accuracy-by-class", figure, over_seeds=True)]


def _difference(result: Result, rated: Sequence[str]) -> str:
    """Write the paired difference of two models; of more, the table has it."""
    if len(rated) != 2:
        return ""
    pairs = list(zip(*(_seeds(result, name) for name in rated), strict=False))
    found = accuracy_difference(result, pairs)
    if found is None:
        return ""
    ends = found.value, found.low, found.high
    points, low, high = (f"{100 * value:+.1f}".replace("-", "−") for value in ends)
    a, b = (style.shorten(name, 24) for name in rated)
    return f"{a} minus {b}: {points} percentage points ({low} to {high})"


def _seeds(result: Result, name: str) -> list[str]:
    """Return the names of a compared network's seeds, itself first."""
    own = (result.data["model"] == name) & (result.data["state"] == TRAINED)
    return [str(seed) for seed in result.data["network"].values[own.values]]
