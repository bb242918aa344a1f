"""Linear probes at every layer of one model, fitted on a subset that is named.

The analysis `probes` splits the images of a comparison in halves; here the probes are fitted on
training images and tested on the test split, as in Raghu et al. 2021, Figs 11 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.base import Accumulator, Array, Result, Study, Subject
from zoo.analyses.places import choose_images, last_block, layout_of, mean_over_places
from zoo.analyses.probe_figures import draw_depth
from zoo.analyses.probed_layers import CLS, MEAN, Probed, layer_arrays, plan
from zoo.analyses.ridge import FEW_SHOT, LayerProbe, fit_layers
from zoo.capture.taps import Tap
from zoo.config import Settings
from zoo.data.subsets import Subset
from zoo.engine import MIN_BATCH, run_pass, subject_of
from zoo.errors import UserError
from zoo.models.files import LoadedModel
from zoo.progress import OnProgress, untold

MAX_NUMBERS = 1 << 28  # features kept of one subset: 1 GB

Features = dict[str, dict[str, NDArray[np.float32]]]  # pooling -> layer -> (n, channels)


def probe_model(
    model: LoadedModel,
    train: Subset,
    test: Subset,
    *,
    few_shot: int = FEW_SHOT,
    layers: str = "blocks",
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = untold,
) -> Result:
    """Probe every layer of a model, from its class token and from the mean over places.

    Args:
        model: any model; images are resized to its input.
        train: fits the probes.
        test: tests them; it has the same classes.
        few_shot: images of a class in a few-shot probe, or all where there are fewer.
        layers: which ones, as `zoo.capture.layers.select_layers` takes it.
        settings: batch size and seed.
        device: where the network runs.
        on_progress: is told of the images of each subset in turn, then of every layer probed.

    Returns:
        Arrays `all/<name>`, `few/<name>` and `penalty/<name>` (layer, pooling), NaN where `notes`
        say why there is no probe; `depth/<name>`, `chance` and `images` (to fit, to test).

    Raises:
        UserError: the two subsets have different classes, or too few images; or no layer's output
            lies over the image.
    """
    _check(train, test, few_shot)
    settings, device = settings or Settings(), torch.device(device)
    subject = subject_of(model, replace(settings, layers=layers), device)
    probed, notes = plan(subject, 1)
    notes = [note for note in notes if "not probed" in note]
    if not probed.layers:
        raise UserError(f"nothing to probe: {'; '.join(notes)}")
    taken = []
    for subset in (train, test):
        most = _most_images(subject, probed.layers, len(probed.poolings))
        chosen = choose_images(len(subset), most, settings.seed)
        if len(chosen) < len(subset):
            notes.append(
                f"{subset.info.name}: {len(chosen):,} of {len(subset):,} images, at random"
            )
        labels = np.array(subset.labels[chosen])
        classes = tuple(subset.info.class_names)
        study = Study((subject,), subset.images[chosen], labels, classes, (), settings, device)
        pooled = _Pooled(subject, probed.layers, probed.poolings)
        run_pass(study, [pooled], on_progress)
        taken.append((pooled.features(), labels))
    (fit, fit_labels), (judged, judged_labels) = taken
    counts = np.bincount(fit_labels)
    if counts[counts > 0].min() < few_shot:
        notes.append(
            f"few-shot probes are fitted on fewer than {few_shot} images of some classes: "
            f"{train.info.name} has {counts[counts > 0].min()} of the rarest"
        )
    probes = {
        pooling: fit_layers(
            fit[pooling],
            fit_labels,
            judged[pooling],
            judged_labels,
            few_shot=few_shot,
            seed=settings.seed,
            on_progress=on_progress,
        )
        for pooling in probed.poolings
    }
    chance = float((judged_labels == counts.argmax()).mean())
    images = np.array([len(fit_labels), len(judged_labels)])
    return _result(subject, probed, probes, chance, images, notes)


def rows(result: Result) -> list[dict[str, Any]]:
    """Return one row a layer and pooling; None where there is no probe."""
    (name,) = result.models
    of = {kind: result.arrays[f"{kind}/{name}"].values for kind in ("all", "few", "penalty")}
    depth = result.arrays[f"depth/{name}"].values
    return [
        {
            "layer": layer,
            "depth": round(float(depth[i]), 4),
            "pooling": pooling,
            **{kind: _or_none(values[i, j]) for kind, values in of.items()},
        }
        for i, layer in enumerate(result.labels[f"layer[{name}]"])
        for j, pooling in enumerate(result.labels[f"pooling[{name}]"])
    ]


def draw(result: Result, *, few_shot: int = FEW_SHOT) -> Figure:
    """Draw accuracy against depth: fitted on all images of the subset, and on a few a class."""
    return draw_depth(result, few_shot=few_shot)


class _Pooled(Accumulator):
    """Keeps every layer of one model, pooled."""

    def __init__(
        self, subject: Subject, layers: tuple[str, ...], poolings: tuple[str, ...]
    ) -> None:
        self.subject, self.layers, self.poolings = subject, layers, poolings
        self.kept: dict[tuple[str, str], list[NDArray[np.float32]]] = {}

    def taps(self, subject: int) -> Iterable[Tap]:
        return [Tap(name) for name in self.layers]

    def observe(self, subject: int, tap: Tap, value: torch.Tensor) -> None:
        value = value.float()
        self._keep(MEAN, tap.layer, mean_over_places(value, self.subject, tap.layer))
        if CLS in self.poolings and layout_of(self.subject, tap.layer):
            self._keep(CLS, tap.layer, value[:, 0])

    def _keep(self, pooling: str, layer: str, value: torch.Tensor) -> None:
        self.kept.setdefault((pooling, layer), []).append(value.cpu().numpy().copy())

    def features(self) -> Features:
        """Return what was kept, in the layers' order."""
        return {
            pooling: {
                layer: np.concatenate(self.kept[pooling, layer])
                for layer in self.layers
                if (pooling, layer) in self.kept
            }
            for pooling in self.poolings
        }


def _check(train: Subset, test: Subset, few_shot: int) -> None:
    if train.info.class_names != test.info.class_names:
        shown = [", ".join(part.info.class_names[:4]) for part in (train, test)]
        raise UserError(
            f"{train.info.name} and {test.info.name}: expected the same classes, "
            f"got {shown[0]}, … and {shown[1]}, …"
        )
    if few_shot < 2:
        raise UserError(
            f"few-shot: expected 2 or more images a class, one of them to choose the penalty; "
            f"got {few_shot}"
        )
    if (np.bincount(np.asarray(train.labels)) >= 2).sum() < 2 or len(test) < MIN_BATCH:
        raise UserError(
            f"expected two or more classes with two or more training images each, and "
            f"{MIN_BATCH} test images; {train.info.name} has {len(train)}, test {len(test)}"
        )


def _most_images(subject: Subject, layers: tuple[str, ...], poolings: int) -> int:
    """Return of how many images all features fit into memory."""
    numbers = 0
    for name in layers:
        layout, shape = layout_of(subject, name), subject.trace[name].shape
        first = layout is not None and layout.kind == "channels_first"
        numbers += poolings * (shape[0] if first else shape[-1])
    return max(MIN_BATCH, MAX_NUMBERS // max(1, numbers))


def _result(
    subject: Subject,
    probed: Probed,
    probes: dict[str, dict[str, LayerProbe]],
    chance: float,
    images: NDArray[np.int64],
    notes: list[str],
) -> Result:
    name = subject.name
    by_place = {(layer, pool): p for pool, of in probes.items() for layer, p in of.items()}
    found, missing = layer_arrays(probed, by_place)
    arrays = {f"{kind}/{name}": array for kind, array in found.items()}
    arrays |= {"chance": Array(np.array(chance), ()), "images": Array(images, ("part",))}
    labels = {f"layer[{name}]": probed.layers, f"pooling[{name}]": probed.poolings}
    labels["part"] = ("fit", "test")
    values = {kind: array.values for kind, array in found.items()}
    metrics = _metrics(subject, probed.layers, probed.poolings, values) | {"probe/chance": chance}
    return Result((name,), arrays, metrics, labels, (*notes, *missing))


def _metrics(
    subject: Subject,
    layers: tuple[str, ...],
    poolings: tuple[str, ...],
    values: dict[str, NDArray[np.float64]],
) -> dict[str, float]:
    found = {}
    last = last_block(subject)
    for kind, prefix in (("all", ""), ("few", "few_shot_")):
        mean = values[kind][:, poolings.index(MEAN)]
        found[f"{prefix}middle_accuracy"] = mean[(len(layers) - 1) // 2]
        if np.isfinite(values[kind]).any():
            found[f"{prefix}best_layer_accuracy"] = np.nanmax(values[kind])
        if last in layers:
            found[f"{prefix}last_block_mean_accuracy"] = mean[layers.index(last)]
            if CLS in poolings:
                own = values[kind][layers.index(last), poolings.index(CLS)]
                found[f"{prefix}cls_last_accuracy"] = own
    return {
        f"probe/{subject.name}/{what}": float(value)
        for what, value in found.items()
        if math.isfinite(value)
    }


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
