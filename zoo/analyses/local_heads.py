"""Do a ViT's local heads see like a CNN's early layers? (Raghu et al. 2021, Fig. 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from zoo.analyses.about import About, Drawing
from zoo.analyses.attention_distance import distance_point
from zoo.analyses.local_heads_figures import LEAST_RANGE, draw_pair
from zoo.analyses.localisation import gram_or_nan
from zoo.capture.hook_points import HookPoint
from zoo.measures.hsic_replicates import HsicReplicates
from zoo.measures.linear_cka import PROBLEMS, cka_from_hsic
from zoo.measures.replicates import INTERVAL, GroupedMean, percentile_interval
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.attention_layers import Attending, attending_models
from zoo.study.axes import column, interval, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.replicates import draws_of, replicated
from zoo.study.results import Metric, Part, Result
from zoo.study.spatial_layout import name_copies

ABOUT = About(
    name="local-heads",
    title="Local heads and CNN features",
    shows=(
        "Whether the heads of a ViT's first attention layer that look near resemble a CNN's early "
        "layers more than the heads that look far. Heads are ordered by attention distance; every "
        "run of half of them in that order is compared with each early CNN layer by CKA of the "
        "heads' outputs before their projection."
    ),
    reading=(
        "There is one line per CNN layer; heads farther to the right look farther. "
        "Falling lines mean that local heads resemble the CNN more. Bands are 95 % intervals over "
        "images. Neighbouring points share heads, and a narrow range of distances says little."
    ),
    needs="attention",
    source="Raghu et al. 2021, Fig. 5",
    settings=("batch_size",),
    captions={
        "local-heads-{}": "CKA of heads with early CNN layers, against how far the heads look: {}.",
    },
    metrics={
        "patch": "side of a patch",
        "local_minus_global": "CKA of the most local minus the most global heads",
        "distance_range": "distance of the most global minus the most local heads",
    },
    units={
        "patch": "pixels",
        "distance_range": "pixels",
        "local_minus_global": "difference of two similarities",
    },
)

PROJECTIONS = ("proj", "out_proj", "to_out")


def head_subsets(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every run of half of the heads in order of distance, nearest first.

    Args:
        distances: (heads,) in pixels.

    Returns:
        (subsets, heads): 1 where a head is in a subset, else 0.

    >>> head_subsets(np.array([9.0, 1.0, 5.0, 7.0]))
    array([[0., 1., 1., 0.],
           [0., 0., 1., 1.],
           [1., 0., 0., 1.]])
    """
    heads = len(distances)
    size = max(1, heads // 2)
    order = np.argsort(distances, kind="stable")
    chosen = np.zeros((heads - size + 1, heads))
    for first in range(len(chosen)):
        chosen[first, order[first : first + size]] = 1
    return chosen


def subset_hsic(hsic: NDArray[np.float64], subsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return HSIC of subsets of heads and of other layers from that of single heads.

    A linear Gram matrix of concatenated outputs is the sum of the heads' own, and HSIC is
    bilinear in Gram matrices, so subsets can be chosen after all images have been seen.

    Args:
        hsic: (…, heads + layers, heads + layers), heads first.
        subsets: (subsets, heads) of 0 and 1.

    Returns:
        (…, subsets + layers, subsets + layers); NaN where a head or layer in it is NaN.
    """
    count, heads = subsets.shape
    layers = hsic.shape[-1] - heads
    combine = np.zeros((count + layers, heads + layers))
    combine[:count, :heads] = subsets
    combine[count:, heads:] = np.eye(layers)
    lost = np.isnan(np.diagonal(hsic, axis1=-2, axis2=-1)).astype(float) @ combine.T > 0
    found = combine @ np.nan_to_num(hsic) @ combine.T
    return np.where(lost[..., :, None] | lost[..., None, :], np.nan, found)


def early_layers(network: ComparedNetwork) -> tuple[str, ...]:
    """Return a CNN's stem and the first third of its blocks, at least one."""
    blocks = network.trace.of_role("block")
    return network.trace.of_role("stem") + blocks[: math.ceil(len(blocks) / 3)]


def start(study: Study) -> Accumulator:
    """Begin to compare first-layer heads with early CNN layers.

    Raises:
        NotApplicable: the study has no ViT, no CNN, or no ViT whose heads can be told apart.
    """
    models, notes = attending_models(study, "no local heads")
    cnns = {
        s: layers
        for s, network in enumerate(study.networks)
        if network.family == "cnn" and (layers := early_layers(network))
    }
    if not any(study.networks[s].compared for s in cnns):
        raise NotApplicable("needs a CNN with blocks to compare the ViT with")
    notes = [n for n in notes if not any(n.startswith(f"{study.networks[s].name}:") for s in cnns)]
    outputs: dict[int, HookPoint] = {}
    for s, model in models.items():
        if at := heads_outputs(study.networks[s], model.layers[0]):
            outputs[s] = at
        elif study.networks[s].compared:
            notes.append(
                f"{model.name}: skipped, since {model.layers[0]} never calls an output projection "
                "as a module: its heads' outputs cannot be seen"
            )
    if not any(study.networks[s].compared for s in outputs):
        raise NotApplicable("; ".join(notes))
    vits = {s: models[s] for s in outputs}
    return _Heads(study, vits, outputs, cnns, notes + name_copies(study.images))


def heads_outputs(network: ComparedNetwork, layer: str) -> HookPoint | None:
    """Return where the concatenated outputs of an attention layer's heads are seen.

    They are what its projection is given; `nn.MultiheadAttention` calls none as a module.
    """
    modules = dict(network.model.module.named_modules())
    if isinstance(modules[layer.partition("#")[0]], nn.MultiheadAttention):
        return HookPoint(layer, "heads")
    ran = {found.name for found in network.trace}
    for name in PROJECTIONS:
        path = f"{layer}.{name}"
        if path in ran and isinstance(modules[path], nn.Linear):
            return HookPoint(path, "input")
    return None


class _Heads(Accumulator):
    """Keeps one Gram matrix per head and CNN layer for a batch, and their HSIC per batch."""

    gathers = ("distances", "problems", "hsic")

    def __init__(
        self,
        study: Study,
        vits: dict[int, Attending],
        outputs: dict[int, HookPoint],
        cnns: dict[int, tuple[str, ...]],
        notes: list[str],
    ) -> None:
        self.study, self.vits, self.outputs, self.cnns = study, vits, outputs, cnns
        self.notes = notes
        self.distances = {s: GroupedMean() for s in vits}
        self.grams: dict[tuple[int, int], torch.Tensor] = {}
        self.codes: dict[tuple[int, int], torch.Tensor] = {}
        self.problems: dict[tuple[int, int], str] = {}
        batches = math.ceil(len(study.images) / study.settings.batch_size)
        self.hsic = {
            (v, c): HsicReplicates(batches=batches, layers=vits[v].heads + len(cnns[c]))
            for v in vits
            for c in cnns
            if study.networks[v].state == study.networks[c].state
        }

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        if vit := self.vits.get(index):
            return [distance_point(vit.layers[0], vit), self.outputs[index]]
        return [HookPoint(name) for name in self.cnns.get(index, ())]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        if hook_point.kind == "attention":
            self.distances[index].add(value.cpu().numpy())
        elif index in self.vits:
            heads = self.vits[index].heads
            for head, output in enumerate(value.unflatten(-1, (heads, -1)).unbind(-2)):
                self._keep(index, head, output)
        else:
            self._keep(index, self.cnns[index].index(hook_point.layer), value)

    def _keep(self, index: int, row: int, value: torch.Tensor) -> None:
        gram = self.study.centred_gram(value)
        self.grams[index, row], self.codes[index, row] = gram_or_nan(gram), gram.code

    def end_batch(self, batch: Batch) -> None:
        codes = torch.stack([*self.codes.values()]).tolist()
        for at, code in zip(self.codes, codes, strict=True):
            if code:
                self.problems.setdefault(at, PROBLEMS[code])
        for (v, c), kept in self.hsic.items():
            rows = [(v, head) for head in range(self.vits[v].heads)]
            rows += [(c, layer) for layer in range(len(self.cnns[c]))]
            grams = torch.stack([self.grams[row] for row in rows])
            kept.add(grams)

    def result(self) -> Result:
        networks = self.study.networks
        for (s, row), problem in self.problems.items():
            if networks[s].compared:
                layer = self.cnns.get(s, ())
                what = layer[row] if layer else f"{self.vits[s].layers[0]} head {row + 1}"
                self.notes.append(f"{networks[s].name}: {what} {problem} in a batch")
        metrics: list[Metric] = []
        parts: list[Part] = []
        for v, vit in self.vits.items():
            name = vit.name
            distances = self.distances[v].result().whole
            if not np.isfinite(distances).all():
                if networks[v].compared:
                    self.notes.append(
                        f"{name}: skipped, since a head of {vit.layers[0]} has no attention "
                        "distance"
                    )
                continue
            metrics.append(Metric("patch", vit.grid.patch, name))
            for of, c in self.hsic:
                if of == v:
                    data = self._compare(v, c, distances)
                    metrics += self._summarise(v, c, data)
                    if networks[v].compared and networks[c].compared:
                        parts.append(Part(name, data, network_b=networks[c].name))
        return Result(parts=tuple(parts), metrics=tuple(metrics), notes=tuple(self.notes))

    def _compare(self, v: int, c: int, distances: NDArray[np.float64]) -> xr.Dataset:
        """Return CKA of subsets of a ViT's heads with a CNN's early layers."""
        subsets = head_subsets(distances)
        means = subsets @ distances / subsets.sum(axis=1)
        cells = (slice(None, len(subsets)), slice(len(subsets), None))
        hsic = self.hsic[v, c].result()
        found = hsic.map(lambda values: cka_from_hsic(subset_hsic(values, subsets))[cells])
        dims = ("subset", "layer")
        variables = {
            **replicated("cka", dims, found),
            "heads": variable(("subset", "head"), subsets),
            "head_distance": variable("head", distances, unit="pixels"),
        }
        if found.freedom:
            variables["cka_ci"] = interval(dims, *found.similarity_interval(), kind=INTERVAL)
        trace = self.study.networks[c].trace
        names = {
            "distance": variable("subset", means, unit="pixels"),
            "name": ("layer", column(self.cnns[c])),
            "role": ("layer", column([trace[name].role for name in self.cnns[c]])),
        }
        return xr.Dataset(variables, names)

    def _summarise(self, v: int, c: int, data: xr.Dataset) -> Iterator[Metric]:
        """Yield how much CKA falls with the heads' distance, the mean over a CNN's layers."""
        vit, cnn = (self.study.networks[s] for s in (v, c))
        distance = data["distance"].values
        reach, patch = float(distance[-1] - distance[0]), self.vits[v].grid.patch
        yield Metric("distance_range", reach, vit.name, cnn.name)
        told = vit.compared and cnn.compared
        if told and reach < LEAST_RANGE * patch:
            self.notes.append(
                f"{vit.name} and {cnn.name}: no figure, since the heads look equally far: "
                f"{reach:.2f} pixels apart, under half a patch of {patch:g}; their order is due to "
                "chance"
            )
        draws = draws_of(data, "cka")
        difference = percentile_interval((draws[:, 0] - draws[:, -1]).mean(axis=1))
        if math.isfinite(difference[0]):
            yield Metric.of("local_minus_global", difference, vit.name, cnn.name)
        if told and "cka_ci" not in data:
            self.notes.append(
                f"{vit.name} and {cnn.name}: no intervals: they come from groups of images, "
                "and there are too few"
            )


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw CKA against the heads' distance for each ViT whose heads differ in it, and each CNN."""
    drawn = []
    for part in result.parts:
        patch = result.metric("patch", part.network) or math.nan
        reach = float(np.ptp(part.data["distance"].values))
        if {part.network, part.network_b} <= set(compared) and not reach < LEAST_RANGE * patch:
            figure = draw_pair(part)
            drawn.append(Drawing("local-heads-{}", figure, (part.network, part.network_b)))
    return drawn
