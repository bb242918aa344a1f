"""Where a ViT looks: attention rollout over the image, single heads, and attention's entropy.

A layer's rollout follows attention through the layers below it down to the input patches
(Abnar & Zuidema 2020; Zhu et al. 2023, Sec. 4).
"""

from __future__ import annotations

import math
from functools import partial
from itertools import combinations

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About
from zoo.analyses.attention_figures import colour_range, draw_entropy, draw_maps, relative_share
from zoo.analyses.rollout import rollout_step, token_maps
from zoo.capture.hook_points import HookPoint
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.attention_layers import Attending, attending_models, name_images
from zoo.study.networks import Study
from zoo.study.results import Array, Result, Scale, pair_name
from zoo.study.spatial_layout import as_seen

ABOUT = About(
    name="attention-maps",
    title="Attention maps",
    shows=(
        "Which patches reach the token that the classifier reads, layer by layer (attention "
        "rollout), what each head of the last layer attends to, and how evenly attention is "
        "spread (its entropy)."
    ),
    reading=(
        "Colour gives a patch's share of attention over that of even attention, so 1 means no "
        "preference; all maps of rollout have one colour range, and all maps of heads. Layers are "
        "counted from the input, and the column of layer 6 follows attention through all of the "
        "first six. Rollout multiplies layer by layer and so evens out with depth, whatever a "
        "model looks at: an even map of a late layer says little. A normalised entropy of 1 is "
        "attention spread evenly over all tokens, 0 is attention on one token."
    ),
    needs="attention",
    source="Zhu et al. 2023, Sec. 4; Abnar & Zuidema 2020",
    settings=("batch_size", "shown_images", "seed"),
    captions={
        "attention-maps-{}": "Attention rollout of {}, layer by layer.",
        "attention-maps-{}-heads": "What each head of {}'s last layer attends to.",
        "attention-maps-entropy": "How evenly attention is spread, against depth.",
    },
)

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
    """Return Pearson's correlation of two stacks of maps, (n,), one value an image.

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

    def __init__(self, study: Study, models: dict[int, Attending], notes: list[str]) -> None:
        self.study, self.models, self.notes = study, models, notes
        self.rollout: dict[int, torch.Tensor] = {}
        self.final: dict[int, torch.Tensor] = {}
        self.entropy: dict[int, NDArray[np.float64]] = {}
        self.shown: dict[int, NDArray[np.float32]] = {}
        self.heads: dict[int, NDArray[np.float32]] = {}
        for s, model in models.items():
            layers, places = len(model.layers), (model.grid.height, model.grid.width)
            self.entropy[s] = np.zeros((layers, model.heads))
            self.shown[s] = np.zeros((len(study.shown), layers, *places), np.float32)
            self.heads[s] = np.zeros((len(study.shown), model.heads, *places), np.float32)
        self.random = np.random.default_rng(study.settings.seed)
        self.pairs: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
        for a, b in combinations(models, 2):
            if _side(models[a]) == _side(models[b]):
                self.pairs[a, b] = []
            else:
                self.notes.append(
                    f"{pair_name(models[a].name, models[b].name)}: maps are not compared, since "
                    f"the token grids differ ({_side(models[a])}, {_side(models[b])})"
                )
        self.seen = 0

    def hook_points(self, subject: int) -> list[HookPoint]:
        model = self.models.get(subject)
        return [HookPoint(name, "attention") for name in model.layers] if model else []

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
        model = self.models[subject]
        layer = model.layers.index(tap.layer)
        read = partial(token_maps, grid=model.grid, class_token=model.class_token)
        self.entropy[subject][layer] += attention_entropy(value).double().sum(dim=0).cpu().numpy()
        self.rollout[subject] = rollout_step(value, self.rollout[subject] if layer else None)
        self.final[subject] = maps = read(self.rollout[subject])
        for i, image in enumerate(self.study.shown):
            row = image - self.seen
            if 0 <= row < len(value):
                self.shown[subject][i, layer] = maps[row].cpu().numpy()
                if layer == len(model.layers) - 1:
                    self.heads[subject][i] = read(value[row]).cpu().numpy()

    def end_batch(self, batch: Batch) -> None:
        for (a, b), kept in self.pairs.items():
            first, second = self.final[a], self.final[b]
            # The floor: each image's map beside another's, at random.
            order = torch.from_numpy(self.random.permutation(len(second))).to(second.device)
            both = [map_correlation(first, second), map_correlation(first, second[order])]
            kept.append(torch.stack(both).cpu().numpy())
        self.seen = batch.stop

    def result(self) -> Result:
        arrays: dict[str, Array] = {}
        metrics: dict[str, float] = {}
        labels = {"image": name_images(self.study), "channel": ("red", "green", "blue")}
        for s, model in self.models.items():
            labels[f"layer[{model.name}]"] = model.layers
            arrays |= self._arrays(s, model)
            relative = arrays[f"normalised_entropy/{model.name}"].values
            metrics[f"attention-maps/{model.name}/entropy"] = float(relative.mean())
            metrics[f"attention-maps/{model.name}/entropy_last"] = float(relative[-1].mean())
            if not model.class_token:
                self.notes.append(
                    f"{model.name}: its classifier reads no class token, so its maps are the "
                    "mean over the rows of all patches"
                )
        for (a, b), kept in self.pairs.items():
            name = pair_name(self.models[a].name, self.models[b].name)
            same, permuted = np.concatenate(kept, axis=1)
            arrays[f"correlation/{name}"] = Array(same, ("all_images",))
            metrics[f"attention-maps/{name}/map_correlation"] = _mean_defined(same)
            metrics[f"attention-maps/{name}/permuted_images"] = _mean_defined(permuted)
            if lost := int(np.isnan(same).sum()):
                self.notes.append(
                    f"{name}: on {lost} of {self.seen} images a map is constant or not finite; "
                    "they are left out of the correlation"
                )
        for key in [key for key, value in metrics.items() if not math.isfinite(value)]:
            del metrics[key]
            self.notes.append(f"{key} is not defined: the attention it rests on is not finite")
        names = tuple(model.name for model in self.models.values())
        notes, scales = tuple(self.notes), self._scales(arrays)
        return Result(names, arrays, metrics, labels, notes, scales=scales)

    def _scales(self, arrays: dict[str, Array]) -> dict[str, Scale]:
        """Return a scale for all models' rollout, one for their heads, and those of entropy."""
        titles = {"rollout": "attention rollout", "heads": "heads of the last layer"}
        models = self.models.values()
        most = math.log(max(model.tokens for model in models))
        scales = {
            "normalised_entropy": Scale("entropy / log(tokens)", 0, 1),
            "entropy": Scale("entropy in nats", 0, most),
        }
        for kind, title in titles.items():
            shares = [arrays[f"{kind}/{model.name}"].values.ravel() for model in models]
            low, high = colour_range(np.concatenate(shares))
            scales[kind] = Scale(title, low, high, log=True)
        return scales

    def _arrays(self, s: int, model: Attending) -> dict[str, Array]:
        name = model.name
        layer, head = f"layer[{name}]", f"head[{name}]"
        places = (f"grid_row[{name}]", f"grid_column[{name}]")
        pixels = ("image", f"pixel_row[{name}]", f"pixel_column[{name}]", "channel")
        entropy = self.entropy[s] / self.seen
        seen = as_seen(self.study.images[list(self.study.shown)], self.study.subjects[s])
        return {
            f"images/{name}": Array(seen, pixels),
            f"rollout/{name}": _shares(self.shown[s], ("image", layer, *places)),
            f"heads/{name}": _shares(self.heads[s], ("image", head, *places)),
            f"entropy/{name}": Array(entropy, (layer, head), "nats"),
            f"normalised_entropy/{name}": Array(entropy / math.log(model.tokens), (layer, head)),
        }


def _shares(maps: NDArray[np.float32], dims: tuple[str, ...]) -> Array:
    return Array(relative_share(maps).astype(np.float32), dims, "× an even share")


def _side(model: Attending) -> str:
    return f"{model.grid.height}×{model.grid.width}"


def _mean_defined(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def draw(result: Result) -> dict[str, Figure]:
    """Draw rollout and last-layer heads of each model, and the entropy of all of them."""
    figures = {}
    for name in result.models:
        figures[f"attention-maps-{name}"] = draw_maps(result, name, "rollout", "layer")
        figures[f"attention-maps-{name}-heads"] = draw_maps(result, name, "heads", "head")
    figures["attention-maps-entropy"] = draw_entropy(result)
    return figures
