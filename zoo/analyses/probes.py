"""Linear probes of every layer: what class information is there, and in which tokens?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.probe_figures import draw_depth, draw_tokens
from zoo.analyses.probed_layers import (
    CLS,
    MEAN,
    Key,
    Probed,
    pixel_baseline,
    pixel_features,
    plan,
    pooling_read,
    probe_dataset,
    probe_metrics,
    share_of_read,
    shares_by_layer,
)
from zoo.capture.hook_points import HookPoint
from zoo.measures.replicates import Replicates
from zoo.measures.ridge import FEW_SHOT, LayerProbe, fit_layers, ridge_probe
from zoo.measures.sampling import stratified_split
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.axes import variable
from zoo.study.networks import Study
from zoo.study.results import Metric, Part, Result
from zoo.study.spatial_layout import (
    SMALLEST_GRID,
    choose_images,
    layout_of,
    mean_over_places,
    name_copies,
    places_of,
)

ABOUT = About(
    name="probes",
    title="Linear probes",
    shows=(
        "How well a linear classifier reads the class off each layer, from the class token and "
        "from the mean over places, and off each single token of the last block. It is fitted on "
        "half of the images shown here and tested on the other half (at most 2,048 in all)."
    ),
    reading=(
        "A curve that rises early has class information in its middle layers. Where single tokens "
        "of the last block score far below the class token, the model keeps what it knows of the "
        "class in one token; where they score as high, every token has it. Bands are 95 % "
        "intervals for that many test images, or over seeds where a model has several. There are "
        "two baselines. Above its dotted line (the same network untrained, where that is known), "
        "training has added something; below the line of raw pixels, a linear classifier does "
        "better without the network. Probes are fitted on the labels of half of the test images, "
        "which may be more than a model was trained on, so they can beat its own classifier."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 11, 13, D.4, F.1–F.3",
    settings=("layers", "seed"),
    captions={
        "probes-layers": (
            "Accuracy of linear probes against depth, beside raw pixels and the untrained networks."
        ),
        "probes-tokens": "Accuracy of a probe on each token of the last block, in its place.",
    },
    metrics={
        "chance": "accuracy of the most common class",
        "pixels_accuracy": "probe of raw pixels: accuracy",
        "pixels_few_shot_accuracy": "probe of raw pixels: accuracy, few-shot",
        "best_layer_accuracy": "best probe of any layer: accuracy",
        "middle_accuracy": "probe at half depth: accuracy",
        "last_block_mean_accuracy": "probe of the last block, mean over places: accuracy",
        "cls_last_accuracy": "probe of the last block's class token: accuracy",
        "single_token_last_mean": "probes of the last block's single tokens: mean accuracy",
    },
)

MAX_IMAGES = 2048
MIN_OF_CLASS = 4  # two to fit (one of them chooses the penalty), two to test


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


class _Features(Accumulator):
    """Keeps pooled features of each layer, single tokens of the last block, and pixels."""

    gathers = ("kept", "pixels")

    def __init__(self, study: Study, images: NDArray[np.int64], notes: list[str]) -> None:
        self.study, self.images, self.notes = study, images, notes
        self.labels = np.asarray(study.labels)[images]
        self.split = stratified_split(self.labels, 0.5, seed=study.settings.seed)
        self.plans: dict[int, Probed] = {}
        for s, network in enumerate(study.networks):
            probed, more = plan(network, len(images))
            if network.compared:
                self.notes += more
            if probed.layers:
                self.plans[s] = probed
        if not any(study.networks[s].compared for s in self.plans):
            raise NotApplicable("; ".join(self.notes) or "no model has layers that can be watched")
        self.kept: dict[tuple[int, str, str], list[NDArray[np.float32]]] = {}
        self.pixels: list[NDArray[np.float32]] = []

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.plans[index].layers] if index in self.plans else []

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        model, probed = self.study.networks[index], self.plans[index]
        inside = self.rows_of(self.images, len(value))
        if len(inside) < len(value):  # else no copy is needed
            value = value[torch.from_numpy(inside).to(value.device)]
        value = value.float()
        layout = layout_of(model, hook_point.layer)
        self._keep(index, hook_point.layer, MEAN, mean_over_places(value, model, hook_point.layer))
        if layout and CLS in probed.poolings:
            self._keep(index, hook_point.layer, CLS, value[:, 0])
        if layout and hook_point.layer == probed.last:
            places = [i * layout.width + j for i in probed.rows for j in probed.columns]
            self._keep(index, hook_point.layer, "token", places_of(value, layout)[:, places])

    def _keep(self, index: int, layer: str, what: str, value: torch.Tensor) -> None:
        self.kept.setdefault((index, layer, what), []).append(value.cpu().numpy().copy())

    def end_batch(self, batch: Batch) -> None:
        rows = self.rows_of(self.images, len(batch.images))
        self.pixels.append(pixel_features(batch.images[rows]))

    def result(self) -> Result:
        train, test = self.split
        classes, counts = np.unique(self.labels[train], return_counts=True)
        if counts.min() < FEW_SHOT:
            self.notes.append(
                f"few-shot probes use all images of classes with fewer than {FEW_SHOT} to fit: "
                f"{int((counts < FEW_SHOT).sum())} of {len(counts)} classes, the fewest "
                f"{counts.min()}"
            )
        commonest = self.labels[test] == classes[counts.argmax()]
        metrics = [Metric("chance", float(commonest.mean()))]
        plans = {s: (self.study.networks[s], probed) for s, probed in self.plans.items()}
        probes: dict[Key, LayerProbe] = {}
        shares: dict[str, Replicates] = {}
        parts: list[Part] = []
        for s, (network, probed) in plans.items():
            probes |= {(network.name, *key): probe for key, probe in self._probes(s, probed)}
            if probed.last:
                right = self._tokens(s, probed)
                tokens = right.mean(axis=0)
                if math.isfinite(mean := float(tokens.mean())):
                    metrics.append(Metric("single_token_last_mean", mean, network.name))
                    read = probes.get((network.name, probed.last, pooling_read(network)))
                    if read and read.all:
                        one = right.mean(axis=1)
                        shares[network.name] = share_of_read(one, read.all.right, commonest)
                if network.compared:
                    tokens = tokens.reshape(len(probed.rows), len(probed.columns))
                    tokens_map = {"token_accuracy": variable(("row", "column"), tokens)}
                    parts.append(Part(network.name, xr.Dataset(tokens_map)))
        data, notes = probe_dataset(list(plans.values()), probes)
        self.notes += notes
        data = data.assign(shares_by_layer(data, shares))
        for network, probed in plans.values():
            metrics += probe_metrics(data["accuracy"], network.name, probed.last)
        pixels = self._fit({"pixels": np.concatenate(self.pixels)})["pixels"]
        height, width = self.study.images.shape[1:3]
        more, notes = pixel_baseline(pixels, (height, width))
        metrics += more
        self.notes += notes
        data.attrs |= {"fit_images": len(train), "test_images": len(test)}
        noted = tuple(dict.fromkeys(self.notes))
        return Result(data, tuple(parts), tuple(metrics), noted, len(test))

    def _fit(self, features: Mapping[str, NDArray]) -> dict[str, LayerProbe]:
        train, test = self.split
        return fit_layers(
            {name: x[train] for name, x in features.items()},
            self.labels[train],
            {name: x[test] for name, x in features.items()},
            self.labels[test],
            seed=self.study.settings.seed,
        )

    def _probes(self, s: int, probed: Probed) -> Iterator[tuple[tuple[str, str], LayerProbe]]:
        """Yield a probe of each layer and pooling of a network."""
        for pooling in probed.poolings:
            features = {
                layer: np.concatenate(self.kept.pop((s, layer, pooling)))
                for layer in probed.layers
                if (s, layer, pooling) in self.kept
            }
            for layer, probe in self._fit(features).items():
                yield (layer, pooling), probe

    def _tokens(self, s: int, probed: Probed) -> NDArray[np.float64]:
        """Return where a probe on each token of the last block is right, (test images, tokens).

        It is NaN for a token that could not be probed.
        """
        features = np.concatenate(self.kept.pop((s, str(probed.last), "token")))
        train, test = self.split
        values = np.full((len(test), features.shape[1]), np.nan)
        reasons: Counter[str] = Counter()
        for t, x in enumerate(features.swapaxes(0, 1)):
            sides = (x[train], self.labels[train], x[test], self.labels[test])
            try:
                values[:, t] = ridge_probe(*sides, seed=self.study.settings.seed).right
            except ValueError as error:
                reasons[str(error)] += 1
        if self.study.networks[s].compared:
            self.notes += [
                f"{probed.name}: {n} of {values.shape[1]} tokens of {probed.last}: no probe, since "
                f"{why}"
                for why, n in reasons.items()
            ]
        return values


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw accuracy against depth for all models on one axis, and accuracy of single tokens."""
    names = [name for name in compared if name in result.networks]
    drawn = [Drawing("probes-layers", draw_depth(result, names), over_seeds=True)]
    maps = {p.network: p.data["token_accuracy"] for p in result.parts if p.network in names}
    shown = {name: m.values for name, m in maps.items() if min(m.shape) >= SMALLEST_GRID}
    if shown:
        drawn.append(Drawing("probes-tokens", draw_tokens(result, shown)))
    return drawn
