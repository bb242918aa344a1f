"""Where a ViT looks: attention rollout over the image, single heads, and attention's entropy.

A layer's rollout follows attention through the layers below it down to the input patches
(Abnar & Zuidema 2020; Zhu et al. 2023, Sec. 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.attention_figures import (
    MARKED,
    colour_range,
    draw_entropy,
    draw_maps,
    relative_share,
)
from zoo.analyses.rollout import rollout_step, token_maps
from zoo.capture.hook_points import HookPoint
from zoo.measures.intervals import mean_defined
from zoo.measures.replicates import GroupedMean, Replicates
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.attention_layers import Attending, attending_models, by_head, name_images
from zoo.study.axes import Scale, column, variable
from zoo.study.networks import Study
from zoo.study.replicates import replicated
from zoo.study.results import SIGNED, Metric, Part, Result
from zoo.study.spatial_layout import as_seen

ABOUT = About(
    name="attention-maps",
    title="Attention maps",
    shows=(
        "Which patches reach the token that the classifier reads, layer by layer (attention "
        "rollout), what each head of the last layer attends to, and how evenly attention is spread "
        "(its entropy)."
    ),
    reading=(
        "The image is visible where attention goes and fades where it does not. A map holds a "
        "patch's share over that of even attention, so 1 means no preference; outlined patches get "
        "at least 1.5 times as much. All rollout maps share one range, as do all maps of heads. "
        "Layers are counted from the input, and the column of layer 6 follows attention through "
        "all of the first six. Rollout multiplies layer by layer and so evens out with depth, "
        "whatever a model looks at: an even map of a late layer says little. A normalised entropy "
        "of 1 is attention spread evenly over all tokens, 0 is attention on one token."
    ),
    needs="attention",
    source="Zhu et al. 2023, Sec. 4; Abnar & Zuidema 2020",
    settings=("batch_size", "show", "shown_images", "seed"),
    captions={
        "attention-maps-{}": "Attention rollout of {}, layer by layer.",
        "attention-maps-{}-heads": "What each head of {}'s last layer attends to.",
        "attention-maps-entropy": "How evenly attention is spread, against depth.",
    },
    metrics={
        "entropy": "entropy of attention (1: even), mean over layers and heads",
        "map_correlation": "correlation of the final maps, mean over images",
        "map_correlation_permuted_images": "correlation of the final maps of different images",
    },
    units=dict.fromkeys(("map_correlation", "map_correlation_permuted_images"), SIGNED),
)

TITLES = {"rollout": "attention rollout", "heads": "heads of the last layer"}
ALONG = {"rollout": "layer", "heads": "head"}  # what there is a map of
# A map whose deviation is below this share of its norm differs by float32 rounding only.
CONSTANT = 1e-6


def attention_entropy(weights: torch.Tensor) -> torch.Tensor:
    """Return attention's entropy in nats, (…, heads), the mean over queries.

    Args:
        weights: (…, heads, queries, keys), each row a distribution over keys.

    Returns:
        0 where every query attends to one key, log(keys) where attention is even.

    >>> round(float(attention_entropy(torch.full((1, 3, 4), 0.25))[0]), 4)  # log 4
    1.3863
    """
    return torch.special.entr(weights).sum(dim=-1).mean(dim=-1)


def map_correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return Pearson's correlation of two stacks of maps, (n,), one value per image.

    Args:
        a: (n, height, width).
        b: maps of the same images on the same grid.

    Returns:
        1 for maps that differ in scale and offset only; NaN where a map is constant.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"expected maps of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    unit = []
    for maps in (a, b):
        values = maps.flatten(1).double()
        centred = values - values.mean(dim=1, keepdim=True)
        length = torch.linalg.vector_norm(centred, dim=1)
        constant = ~(length > CONSTANT * torch.linalg.vector_norm(values, dim=1))
        unit.append(centred / length.masked_fill(constant, math.nan)[:, None])
    return (unit[0] * unit[1]).sum(dim=1)


def start(study: Study) -> Accumulator:
    """Begin attention maps of the models that attend over one grid of tokens."""
    return _Maps(study, *attending_models(study, "no attention maps"))


class _Maps(Accumulator):
    """Keeps each model's rollout of the current batch, sums of entropy, and the shown maps."""

    gathers = ("entropy", "maps", "pairs")

    def __init__(self, study: Study, models: dict[int, Attending], notes: list[str]) -> None:
        self.study, self.models, self.notes = study, models, notes
        self.rollout: dict[int, torch.Tensor] = {}
        self.final: dict[int, torch.Tensor] = {}
        self.entropy: dict[tuple[int, int], GroupedMean] = {}
        self.maps: dict[str, dict[int, NDArray[np.float32]]] = {kind: {} for kind in TITLES}
        # Before training, attention's entropy alone is a baseline: there are no maps to look at.
        self.mapped = {s: m for s, m in models.items() if study.networks[s].compared}
        for s, model in models.items():
            layers, places = len(model.layers), (model.grid.height, model.grid.width)
            self.entropy |= {(s, layer): GroupedMean() for layer in range(layers)}
            if s not in self.mapped:
                continue
            for kind, count in (("rollout", layers), ("heads", model.heads)):
                self.maps[kind][s] = np.zeros((len(study.shown), count, *places), np.float32)
        self.random = np.random.default_rng(study.settings.seed)
        self.pairs: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
        for a, b in combinations(self.mapped, 2):
            if _side(models[a]) == _side(models[b]):
                self.pairs[a, b] = []
            else:
                self.notes.append(
                    f"{models[a].name} and {models[b].name}: maps are not compared, since "
                    f"the token grids differ ({_side(models[a])}, {_side(models[b])})"
                )

    def hook_points(self, index: int) -> list[HookPoint]:
        model = self.models.get(index)
        return [HookPoint(name, "attention") for name in model.layers] if model else []

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        model = self.models[index]
        layer = model.layers.index(hook_point.layer)
        read = partial(token_maps, grid=model.grid, class_token=model.class_token)
        self.entropy[index, layer].add(attention_entropy(value).double().cpu().numpy())
        if index not in self.mapped:
            return
        self.rollout[index] = rollout_step(value, self.rollout[index] if layer else None)
        self.final[index] = maps = read(self.rollout[index])
        for i, image in enumerate(self.study.shown):
            row = image - self.start
            if 0 <= row < len(value):
                self.maps["rollout"][index][i, layer] = maps[row].cpu().numpy()
                if layer == len(model.layers) - 1:
                    self.maps["heads"][index][i] = read(value[row]).cpu().numpy()

    def end_batch(self, batch: Batch) -> None:
        for (a, b), kept in self.pairs.items():
            first, second = self.final[a], self.final[b]
            # The baseline: each image's map beside another's, at random.
            order = torch.from_numpy(self.random.permutation(len(second))).to(second.device)
            both = [map_correlation(first, second), map_correlation(first, second[order])]
            kept.append(torch.stack(both).cpu().numpy())

    def skip_batch(self, start: int, stop: int) -> None:
        for _ in self.pairs:
            self.random.permutation(stop - start)

    def result(self) -> Result:
        metrics: list[Metric] = []
        for s, model in self.models.items():
            layers = [found.whole.mean() for found in self._relative_entropy(s)]
            metrics.append(Metric("entropy", float(np.mean(layers)), model.name))
            if s in self.mapped and not model.class_token:
                self.notes.append(
                    f"{model.name}: its classifier reads no class token, so its maps are the "
                    "mean over the rows of all patches"
                )
        for (a, b), kept in self.pairs.items():
            names = self.models[a].name, self.models[b].name
            same, permuted = np.concatenate(kept, axis=1)
            for end, values in (("", same), ("_permuted_images", permuted)):
                metrics.append(Metric(f"map_correlation{end}", mean_defined(values), *names))
            if lost := int(np.isnan(same).sum()):
                self.notes.append(
                    f"{names[0]} and {names[1]}: on {lost} of {len(same)} images a map is "
                    "constant or not finite; they are left out of the correlation"
                )
        compared = {model.name for model in self.mapped.values()}
        for metric in metrics:
            if metric.network in compared and not math.isfinite(metric.value):
                of = " and ".join(name for name in (metric.network, metric.network_b) if name)
                self.notes.append(
                    f"{of}: {metric.measure} is not defined: the attention it rests on is not "
                    "finite"
                )
        return Result(self._data(), tuple(self._parts()), tuple(metrics), tuple(self.notes))

    def _data(self) -> xr.Dataset:
        """Return the entropy of every layer and head."""
        found = [of for s in self.models for of in self._relative_entropy(s)]
        relative, coordinates = by_head(self.study.networks, self.models, found)
        even = [math.log(model.tokens) for model in self.models.values() for _ in model.layers]
        entropy = relative.whole * np.array(even)[:, None]
        dims, scale = ("layer", "head"), Scale("entropy / log(tokens)")
        variables = {
            **replicated("normalised_entropy", dims, relative, scale=scale),
            "entropy": variable(dims, entropy, unit="nats", scale=Scale("entropy in nats")),
        }
        return xr.Dataset(variables, coordinates)

    def _relative_entropy(self, s: int) -> Iterator[Replicates]:
        """Yield each layer's entropy (heads,) over that of even attention.

        It is NaN for a head whose attention is not finite on some image.
        """
        model = self.models[s]
        for layer in range(len(model.layers)):
            gathered = self.entropy[s, layer]
            broken = gathered.count < gathered.images
            share = np.where(broken, math.nan, 1 / math.log(model.tokens))
            yield gathered.result().map(partial(np.multiply, share))

    def _parts(self) -> Iterator[Part]:
        """Yield each model's pictures and maps; all maps of a kind have one colour range."""
        shares = {
            kind: {s: relative_share(values).astype(np.float32) for s, values in maps.items()}
            for kind, maps in self.maps.items()
        }
        scales = {
            kind: Scale(
                TITLES[kind], *colour_range(np.concatenate([v.ravel() for v in of.values()])),
                log=True, outlined=MARKED,
            )
            for kind, of in shares.items()
        }  # fmt: skip
        images = self.study.images[list(self.study.shown)]
        for s, model in self.mapped.items():
            seen = as_seen(images, self.study.networks[s])
            variables = {"images": variable(("image", "pixel_row", "pixel_column", "colour"), seen)}
            for kind, along in ALONG.items():
                variables[kind] = variable(
                    ("image", along, "row", "column"), shares[kind][s],
                    unit="× an even share", scale=scales[kind],
                )  # fmt: skip
            coordinates = {
                "image": column(name_images(self.study)),
                "name": ("layer", column(model.layers)),
            }
            yield Part(model.name, xr.Dataset(variables, coordinates))


def _side(model: Attending) -> str:
    return f"{model.grid.height}×{model.grid.width}"


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw rollout and last-layer heads of each model, and the entropy of all of them."""
    names = [name for name in compared if name in result.networks]
    drawn = []
    for name in names:
        for kind, along in ALONG.items():
            figure = draw_maps(result.part(name), kind, along)
            end = "" if kind == "rollout" else "-heads"
            drawn.append(Drawing(f"attention-maps-{{}}{end}", figure, (name,)))
    entropy = draw_entropy(result, compared)
    return [*drawn, Drawing("attention-maps-entropy", entropy, over_seeds=True)]
