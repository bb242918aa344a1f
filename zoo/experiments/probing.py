"""Linear probes at every layer of one model, fitted on a subset that is named.

The analysis `probes` splits the images of a comparison in halves; here the probes are fitted on
training images and tested on the test split, as in Raghu et al. 2021, Figs 11 and 13.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.analyses.probed_layers import (
    CLS,
    MEAN,
    Key,
    Probed,
    pixel_baseline,
    pixel_features,
    plan,
    probe_dataset,
    probe_metrics,
)
from zoo.capture.hook_points import HookPoint
from zoo.config import Settings
from zoo.data.subsets import Subset
from zoo.errors import UserError
from zoo.measures.ridge import FEW_SHOT, LayerProbe, fit_layers
from zoo.measures.sampling import MIN_BATCH
from zoo.models.files import LoadedModel
from zoo.models.untrained import before_training
from zoo.progress import OnProgress, no_progress, when
from zoo.study.accumulator import Accumulator
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.one_pass import run_pass
from zoo.study.prepare import look_at
from zoo.study.results import INITIAL, Metric, Result, name_varying
from zoo.study.spatial_layout import choose_images, last_block, layout_of, mean_over_places

MAX_NUMBERS = 1 << 28  # features kept of one subset: 1 GB

PIXELS = "raw pixels, no network"

Features = dict[str, dict[str, NDArray[np.float32]]]  # pooling -> layer -> (n, channels)
Part = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images and labels


def probe_model(
    model: LoadedModel,
    train: Subset,
    test: Subset,
    *,
    few_shot: int = FEW_SHOT,
    layers: str = "blocks",
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = no_progress,
) -> Result:
    """Probe every layer of a model, from its class token and from the mean over places.

    Two baselines say what that is worth: the images themselves, and the mean over places in the
    same network untrained, where that is known.

    Args:
        model: any model; images are resized to its input.
        train: fits the probes.
        test: tests them; it has the same classes.
        few_shot: images of a class in a few-shot probe, or all where there are fewer.
        layers: which ones, as `zoo.capture.layers.select_layers` takes it.
        settings: batch size and seed.
        on_progress: is called for the images of each subset in turn, then for every layer probed;
            and for both again with the untrained network.

    Returns:
        `accuracy`, `few_shot` and `penalty` (layer, pooling) of the model and of the same network
        untrained (its `state` is `initial`), NaN where `notes` say why there is no probe; raw
        pixels and the most common class are among its metrics.

    Raises:
        UserError: the two subsets have different classes, or too few images; or no layer's output
            lies over the image.
    """
    _check(train, test, few_shot)
    settings, device = settings or Settings(), torch.device(device)
    network = look_at(model, replace(settings, layers=layers), device)
    probed, notes = plan(network, 1)
    varying = name_varying(
        network.name, deterministic=network.deterministic, mixes_images=network.mixes_images
    )
    left_out = [note for note in notes if "not probed" in note]
    if not probed.layers:
        why = "; ".join(left_out) or f"{network.name} has no layer before its classifier"
        raise UserError(f"nothing to probe: {why}")
    notes = [*varying, *left_out]
    parts = []
    for subset in (train, test):
        most = _most_images(network, probed, subset)
        chosen = choose_images(len(subset), most, settings.seed)
        if len(chosen) < len(subset):
            notes.append(
                f"{subset.info.name}: {len(chosen):,} of {len(subset):,} images, at random"
            )
        parts.append((subset.images[chosen], np.array(subset.labels[chosen])))
    counts = np.bincount(parts[0][1])
    if counts[counts > 0].min() < few_shot:
        notes.append(
            f"few-shot probes are fitted on fewer than {few_shot} images of some classes: "
            f"{train.info.name} has {counts[counts > 0].min()} of the rarest"
        )
    probing = _Probing(parts[0], parts[1], few_shot, settings, device, on_progress)
    plans = [(network, probed)]
    probes = probing.layers(network, probed)
    if untrained := before_training(model):
        initial = look_at(untrained, replace(settings, layers=layers), device)
        initial = replace(initial, state=INITIAL, compared=False, of=network.name)
        means = replace(probed, poolings=(MEAN,))
        plans.append((initial, means))
        before = replace(probing, on_progress=when(on_progress, "before training"))
        probes |= before.layers(initial, means)
    data, missing = probe_dataset(plans, probes)
    data.attrs |= {
        f"{part}_images": len(labels)
        for part, (_, labels) in zip(("fit", "test"), parts, strict=True)
    }
    pixels, more = probing.pixels()
    metrics = [Metric("chance", float((parts[1][1] == counts.argmax()).mean())), *pixels]
    last = last_block(network)
    for own, own_plan in plans:
        probed_last = last if last in own_plan.layers else None
        metrics += probe_metrics(data["accuracy"], own.name, probed_last)
        metrics += probe_metrics(data["few_shot"], own.name, probed_last, "few_shot_")
    return Result(data, metrics=tuple(metrics), notes=(*notes, *missing, *more))


def default_few_shot(train: Subset) -> int:
    """Return how many images per class few-shot probes get: fewer than all of them."""
    counts = np.bincount(np.asarray(train.labels))
    return max(2, min(FEW_SHOT, int(counts[counts > 0].min()) // 2))


@dataclass(frozen=True)
class _Probing:
    """What every probe of a call has in common: images to fit and to test on, and how."""

    fit: Part
    test: Part
    few_shot: int
    settings: Settings
    device: torch.device
    on_progress: OnProgress

    def layers(self, network: ComparedNetwork, probed: Probed) -> dict[Key, LayerProbe]:
        """Return a probe of each layer and pooling."""
        taken = []
        for images, labels in (self.fit, self.test):
            study = Study((network,), images, labels, (), (), self.settings, self.device)
            pooled = _Pooled(network, probed.layers, probed.poolings)
            run_pass(study, [pooled], self.on_progress)
            taken.append(pooled.features())
        fit, test = taken
        return {
            (network.name, layer, pooling): probe
            for pooling in probed.poolings
            for layer, probe in self._fitted(fit[pooling], test[pooling]).items()
        }

    def pixels(self) -> tuple[list[Metric], list[str]]:
        """Return what probes of the images themselves reach, and notes."""
        pixels = [{PIXELS: pixel_features(images)} for images, _ in (self.fit, self.test)]
        height, width = self.fit[0].shape[1:3]
        return pixel_baseline(self._fitted(*pixels)[PIXELS], (height, width))

    def _fitted(
        self, fit: dict[str, NDArray[np.float32]], test: dict[str, NDArray[np.float32]]
    ) -> dict[str, LayerProbe]:
        return fit_layers(
            fit, self.fit[1], test, self.test[1],
            few_shot=self.few_shot, seed=self.settings.seed, on_progress=self.on_progress,
        )  # fmt: skip


class _Pooled(Accumulator):
    """Keeps every layer of one model, pooled."""

    def __init__(
        self, network: ComparedNetwork, layers: tuple[str, ...], poolings: tuple[str, ...]
    ) -> None:
        self.network, self.layers, self.poolings = network, layers, poolings
        self.kept: dict[tuple[str, str], list[NDArray[np.float32]]] = {}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.layers]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        value = value.float()
        self._keep(MEAN, hook_point.layer, mean_over_places(value, self.network, hook_point.layer))
        if CLS in self.poolings and layout_of(self.network, hook_point.layer):
            self._keep(CLS, hook_point.layer, value[:, 0])

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


def _most_images(network: ComparedNetwork, probed: Probed, subset: Subset) -> int:
    """Return of how many images all features fit into memory, and all pixels after them."""
    numbers, poolings = 0, len(probed.poolings)
    for name in probed.layers:
        layout, shape = layout_of(network, name), network.trace[name].shape
        first = layout is not None and layout.kind == "channels_first"
        numbers += poolings * (shape[0] if first else shape[-1])
    numbers = max(numbers, pixel_features(subset.images[:1]).size)
    return max(MIN_BATCH, MAX_NUMBERS // numbers)
