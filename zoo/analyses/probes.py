"""Linear probes of every layer: what class information is there, and in which tokens?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.attention_layers import has_class_token
from zoo.analyses.base import (
    About,
    Accumulator,
    Array,
    Batch,
    NotApplicable,
    Result,
    Study,
    Subject,
)
from zoo.analyses.places import (
    choose_images,
    compared_layers,
    last_block,
    layout_of,
    mean_over_places,
    name_copies,
    places_of,
)
from zoo.analyses.probe_figures import draw_depth, draw_tokens
from zoo.analyses.ridge import FEW_SHOT, LayerProbe, fit_layers, ridge_probe
from zoo.capture.taps import Tap
from zoo.data.sampling import stratified_split

ABOUT = About(
    name="probes",
    title="Linear probes",
    shows=(
        "How well a linear classifier reads the class off each layer, from the class token and "
        "from the mean over places, and off each single token of the last block. It is fitted "
        "on half of the images shown here and tested on the other half (at most 2,048 in all)."
    ),
    reading=(
        "A curve that rises early has class information in its middle layers. Where single "
        "tokens of the last block score far below the class token, the model keeps what it "
        "knows of the class in one place; where they score as high, it is everywhere. "
        "Bands are 95 % intervals for that many test images."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 11, 13, D.4, F.1–F.3",
    settings=("layers", "seed"),
    captions={
        "probes-layers": "Accuracy of linear probes, against depth.",
        "probes-tokens": "Accuracy of a probe on each token of the last block, in its place.",
    },
)

MAX_IMAGES = 2048
MAX_TOKENS = 64
TOKEN_NUMBERS = 1 << 26  # features kept of single tokens, a model: 256 MB
MIN_OF_CLASS = 4  # two to fit (one of them chooses the penalty), two to test
CLS, MEAN = "class token", "mean over places"

Key = tuple[int, str, str]  # subject, layer, pooling


@dataclass(frozen=True)
class _Probed:
    """What is probed of a model: layers, poolings, and places (rows, columns) of the last block."""

    name: str
    layers: tuple[str, ...]
    poolings: tuple[str, ...]
    last: str | None
    rows: range
    columns: range


def start(study: Study) -> Accumulator:
    """Begin to collect features of the labelled images.

    Raises:
        NotApplicable: no labels, fewer than two classes with four images, or no layer to probe.
    """
    if study.labels is None:
        raise NotApplicable("the images have no labels")
    labels = np.asarray(study.labels)
    images = choose_images(len(labels), MAX_IMAGES, study.settings.seed)
    classes, counts = np.unique(labels[images], return_counts=True)
    usable = classes[counts >= MIN_OF_CLASS]
    if len(usable) < 2:
        raise NotApplicable(
            f"it needs two classes with at least {MIN_OF_CLASS} images each, half to fit and "
            f"half to test, and there are {len(usable)}"
        )
    notes = [f"{note}: what is tested may have been fitted" for note in name_copies(study.images)]
    if len(images) < len(labels):
        notes.append(f"probed on {len(images):,} of {len(labels):,} images, drawn at random")
    if len(usable) < len(classes):
        notes.append(
            f"classes left out, since they have fewer than {MIN_OF_CLASS} images: "
            f"{len(classes) - len(usable)} of {len(classes)}"
        )
    return _Features(study, images[np.isin(labels[images], usable)], notes)


def plan(subject: Subject, images: int) -> tuple[_Probed, list[str]]:
    """Decide what is probed of a model, and say what is left out."""
    last = last_block(subject)
    chosen = [n for n in compared_layers(subject) if subject.trace[n].role != "head"]
    names = [x.name for x in subject.trace if x.name in chosen or x.name == last]
    # A layer of several dimensions that does not lie over the image has no tokens to pool.
    fits = [n for n in names if layout_of(subject, n) or len(subject.trace[n].shape) == 1]
    notes = []
    if len(fits) < len(names):
        notes.append(
            f"{subject.name}: layers not probed, since their outputs do not lie over the "
            f"image: {', '.join(n for n in names if n not in fits)}"
        )
    poolings = (CLS, MEAN) if has_class_token(subject) else (MEAN,)
    rows, columns = range(0), range(0)
    if last and (layout := layout_of(subject, last)):
        shape = subject.trace[last].shape
        width = shape[0] if layout.kind == "channels_first" else shape[-1]
        most = max(1, min(MAX_TOKENS, TOKEN_NUMBERS // (images * width)))
        rows, columns = regular_places(layout.height, layout.width, most)
        if len(rows) * len(columns) < layout.height * layout.width:
            notes.append(
                f"{subject.name}: {len(rows) * len(columns)} of {layout.height * layout.width} "
                "places of the last block are probed, evenly spread"
            )
    return _Probed(subject.name, tuple(fits), poolings, last, rows, columns), notes


def regular_places(height: int, width: int, most: int) -> tuple[range, range]:
    """Return rows and columns of at most `most` places that lie evenly over a grid.

    >>> regular_places(14, 14, 64)
    (range(0, 14, 2), range(0, 14, 2))
    """
    step = 1
    while math.ceil(height / step) * math.ceil(width / step) > most:
        step += 1
    top, left = (min((step - 1) // 2, side - 1) for side in (height, width))
    return range(top, height, step), range(left, width, step)


class _Features(Accumulator):
    """Keeps pooled features of each layer, and single tokens of the last block, of some images."""

    def __init__(self, study: Study, images: NDArray[np.int64], notes: list[str]) -> None:
        self.study, self.images, self.notes = study, images, notes
        self.plans: dict[int, _Probed] = {}
        for s, subject in enumerate(study.subjects):
            if subject.role == "model":
                probed, more = plan(subject, len(images))
                self.notes += more
                if probed.layers:
                    self.plans[s] = probed
        if not self.plans:
            raise NotApplicable("; ".join(self.notes))
        self.start = 0
        self.kept: dict[Key, list[NDArray[np.float32]]] = {}

    def taps(self, subject: int) -> Iterable[Tap]:
        return [Tap(name) for name in self.plans[subject].layers] if subject in self.plans else []

    def observe(self, subject: int, tap: Tap, value: torch.Tensor) -> None:
        model, probed = self.study.subjects[subject], self.plans[subject]
        inside = (self.images >= self.start) & (self.images < self.start + len(value))
        value = value[torch.from_numpy(self.images[inside] - self.start).to(value.device)].float()
        layout = layout_of(model, tap.layer)
        self._keep(subject, tap.layer, MEAN, mean_over_places(value, model, tap.layer))
        if layout and CLS in probed.poolings:
            self._keep(subject, tap.layer, CLS, value[:, 0])
        if layout and tap.layer == probed.last:
            places = [i * layout.width + j for i in probed.rows for j in probed.columns]
            self._keep(subject, tap.layer, "token", places_of(value, layout)[:, places])

    def _keep(self, subject: int, layer: str, what: str, value: torch.Tensor) -> None:
        self.kept.setdefault((subject, layer, what), []).append(value.cpu().numpy().copy())

    def end_batch(self, batch: Batch) -> None:
        self.start = batch.stop

    def result(self) -> Result:
        labels = np.asarray(self.study.labels)[self.images]
        seed = self.study.settings.seed
        train, test = stratified_split(labels, 0.5, seed=seed)
        counts = np.unique(labels[train], return_counts=True)[1]
        if counts.min() < FEW_SHOT:
            self.notes.append(
                f"few-shot probes use all images of classes with fewer than {FEW_SHOT} to fit: "
                f"{int((counts < FEW_SHOT).sum())} of {len(counts)} classes, the fewest "
                f"{counts.min()}"
            )
        most_common = np.unique(labels[train])[counts.argmax()]
        chance = float((labels[test] == most_common).mean())
        arrays = {
            "chance": Array(np.array(chance), ()),
            "images": Array(np.array([len(train), len(test)]), ("part",)),
        }
        metrics = {"probes/chance": chance}
        names: dict[str, tuple[str, ...]] = {"part": ("fit", "test")}
        for s, probed in self.plans.items():
            names |= {f"layer[{probed.name}]": probed.layers}
            names |= {f"pooling[{probed.name}]": probed.poolings}
            arrays |= self._layers(s, probed, labels, train, test)
            if probed.last:
                arrays[f"tokens/{probed.name}"] = self._tokens(s, probed, labels, train, test)
            metrics |= _summary(probed, arrays)
        models = tuple(probed.name for probed in self.plans.values())
        notes = tuple(dict.fromkeys(self.notes))
        return Result(models, arrays, metrics, names, notes, len(test))

    def _layers(
        self, s: int, probed: _Probed, labels: NDArray, train: NDArray, test: NDArray
    ) -> dict[str, Array]:
        found: dict[tuple[str, str], LayerProbe] = {}
        for pooling in probed.poolings:
            features = {
                layer: np.concatenate(self.kept.pop((s, layer, pooling)))
                for layer in probed.layers
                if (s, layer, pooling) in self.kept
            }
            probes = fit_layers(
                {layer: x[train] for layer, x in features.items()},
                labels[train],
                {layer: x[test] for layer, x in features.items()},
                labels[test],
                seed=self.study.settings.seed,
            )
            found |= {(layer, pooling): probe for layer, probe in probes.items()}
        shape = (len(probed.layers), len(probed.poolings))
        values = {kind: np.full(shape, np.nan) for kind in ("all", "few", "penalty")}
        for i, layer in enumerate(probed.layers):
            for j, pooling in enumerate(probed.poolings):
                probe = found.get((layer, pooling))
                if probe is None or probe.all is None or probe.few_shot is None:
                    why = probe.problem if probe else "it has no tokens"
                    self.notes.append(f"{probed.name}: {layer}, {pooling}: no probe, since {why}")
                    continue
                values["all"][i, j], values["few"][i, j] = probe.all.accuracy, probe.few_shot
                values["penalty"][i, j] = probe.all.penalty
        dims = (f"layer[{probed.name}]", f"pooling[{probed.name}]")
        depth = np.linspace(0, 1, len(probed.layers)) if len(probed.layers) > 1 else np.ones(1)
        arrays = {f"{kind}/{probed.name}": Array(v, dims) for kind, v in values.items()}
        return arrays | {f"depth/{probed.name}": Array(depth, dims[:1])}

    def _tokens(
        self, s: int, probed: _Probed, labels: NDArray, train: NDArray, test: NDArray
    ) -> Array:
        features = np.concatenate(self.kept.pop((s, str(probed.last), "token")))
        values = np.full(features.shape[1], np.nan)
        reasons: Counter[str] = Counter()
        for t, x in enumerate(features.swapaxes(0, 1)):
            sides = (x[train], labels[train], x[test], labels[test])
            try:
                values[t] = ridge_probe(*sides, seed=self.study.settings.seed).accuracy
            except ValueError as error:
                reasons[str(error)] += 1
        self.notes += [
            f"{probed.name}: {n} of {len(values)} tokens of {probed.last}: no probe, since {why}"
            for why, n in reasons.items()
        ]
        grid = values.reshape(len(probed.rows), len(probed.columns))
        return Array(grid, (f"row[{probed.name}]", f"column[{probed.name}]"))


def _summary(probed: _Probed, arrays: dict[str, Array]) -> dict[str, float]:
    accuracy = arrays[f"all/{probed.name}"].values
    depth = arrays[f"depth/{probed.name}"].values
    mean = accuracy[:, probed.poolings.index(MEAN)]
    found = {"middle_accuracy": mean[int(np.abs(depth - 0.5).argmin())]}
    if np.isfinite(accuracy).any():
        found["best_layer_accuracy"] = np.nanmax(accuracy)
    if probed.last:
        last = probed.layers.index(probed.last)
        tokens = arrays[f"tokens/{probed.name}"].values
        found["last_block_mean_accuracy"] = mean[last]
        found["single_token_last_mean"] = tokens.mean()
        if CLS in probed.poolings:
            found["cls_last_accuracy"] = accuracy[last, probed.poolings.index(CLS)]
    return {
        f"probes/{probed.name}/{what}": float(value)
        for what, value in found.items()
        if math.isfinite(value)
    }


def draw(result: Result) -> dict[str, Figure]:
    """Draw accuracy against depth for all models on one axis, and accuracy of single tokens."""
    figures = {"probes-layers": draw_depth(result)}
    if shown := [name for name in result.models if f"tokens/{name}" in result.arrays]:
        figures["probes-tokens"] = draw_tokens(result, shown)
    return figures
