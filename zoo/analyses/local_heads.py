"""Do a ViT's local heads see like a CNN's early layers? (Raghu et al. 2021, Fig. 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zoo.analyses.about import About
from zoo.analyses.attention_distance import DistanceSum
from zoo.analyses.local_heads_figures import draw
from zoo.analyses.localisation import gram_or_nan
from zoo.capture.hook_points import HookPoint
from zoo.measures.linear_cka import (
    centred_gram,
    cka_from_hsic,
    cka_interval,
    pairwise_hsic,
)
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.attention_layers import Attending, attending_models
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Array, Result, pair_name
from zoo.study.spatial_layout import name_copies

__all__ = [
    "ABOUT",
    "draw",
    "early_layers",
    "find_projection",
    "head_subsets",
    "rank_correlation",
    "start",
    "subset_hsic",
]

ABOUT = About(
    name="local-heads",
    title="Local heads and CNN features",
    shows=(
        "Whether the heads of a ViT's first attention layer that look near resemble a CNN's "
        "early layers more than the heads that look far. Heads are ordered by attention "
        "distance; every run of half of them in that order is compared with each early CNN layer "
        "by CKA of the heads' outputs before their projection."
    ),
    reading=(
        "A line is a CNN layer; to the right, its partner heads look farther. Lines that fall "
        "say that local heads resemble the CNN more. Bands are 95 % intervals over batches. "
        "Neighbouring points share heads, and a narrow range of distances says little."
    ),
    needs="attention",
    source="Raghu et al. 2021, Fig. 5",
    settings=("batch_size",),
    captions={
        "local-heads-{}": "CKA of heads with early CNN layers, against how far the heads look: {}.",
    },
)

PROJECTIONS = ("proj", "out_proj", "to_out")
FEWEST_SUBSETS = 3  # a rank correlation of two points is always 1 or -1


@dataclass(frozen=True)
class FirstHeads:
    """A ViT's first attention layer, and the projection whose input is its heads' outputs."""

    model: Attending
    layer: str
    projection: str


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


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return Spearman's correlation; NaN for fewer than 3 points, NaN values or constant ones."""
    from scipy.stats import spearmanr  # half a second

    known = np.isfinite(x).all() and np.isfinite(y).all()
    if len(x) < FEWEST_SUBSETS or not known or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(spearmanr(x, y).statistic)


def early_layers(subject: ComparedNetwork) -> tuple[str, ...]:
    """Return a CNN's stem and the first third of its blocks, at least one."""
    blocks = subject.trace.of_role("block")
    return subject.trace.of_role("stem") + blocks[: math.ceil(len(blocks) / 3)]


def start(study: Study) -> Accumulator:
    """Begin to compare first-layer heads with early CNN layers.

    Raises:
        NotApplicable: the study has no ViT, no CNN, or no ViT whose heads can be told apart.
    """
    models, notes = attending_models(study, "no local heads")
    cnns = {
        s: layers
        for s, subject in enumerate(study.subjects)
        if subject.role == "model" and subject.family == "cnn" and (layers := early_layers(subject))
    }
    if not cnns:
        raise NotApplicable("needs a CNN beside the ViT: no model here is one with blocks")
    notes = [n for n in notes if not any(n.startswith(f"{study.subjects[s].name}:") for s in cnns)]
    vits: dict[int, FirstHeads] = {}
    for s, model in models.items():
        first = model.layers[0]
        projection = find_projection(study.subjects[s], first)
        if projection:
            vits[s] = FirstHeads(model, first, projection)
        else:
            notes.append(
                f"{model.name}: skipped, since {first} never calls its output projection as a "
                "module (nn.MultiheadAttention does not): its heads' outputs cannot be seen"
            )
    if not vits:
        raise NotApplicable("; ".join(notes))
    return _Heads(study, vits, cnns, notes + name_copies(study.images))


def find_projection(subject: ComparedNetwork, layer: str) -> str | None:
    """Return the module whose input is the concatenated outputs of an attention layer's heads."""
    modules = dict(subject.model.module.named_modules())
    ran = {found.name for found in subject.trace}
    for name in PROJECTIONS:
        path = f"{layer}.{name}"
        if path in ran and isinstance(modules[path], nn.Linear):
            return path
    return None


class _Heads(Accumulator):
    """Keeps one Gram matrix a head and CNN layer for a batch, and HSIC of all of them a batch."""

    def __init__(
        self,
        study: Study,
        vits: dict[int, FirstHeads],
        cnns: dict[int, tuple[str, ...]],
        notes: list[str],
    ) -> None:
        self.study, self.vits, self.cnns, self.notes = study, vits, cnns, notes
        self.distances = {s: DistanceSum(vit.model) for s, vit in vits.items()}
        self.grams: dict[tuple[int, int], torch.Tensor] = {}
        self.problems: dict[tuple[int, int], str] = {}
        self.hsic: dict[tuple[int, int], list[NDArray[np.float64]]] = {
            (v, c): [] for v in vits for c in cnns
        }

    def hook_points(self, subject: int) -> Iterable[HookPoint]:
        if vit := self.vits.get(subject):
            return [HookPoint(vit.layer, "attention"), HookPoint(vit.projection, "input")]
        return [HookPoint(name) for name in self.cnns.get(subject, ())]

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
        if tap.kind == "attention":
            self.distances[subject].add(value)
        elif subject in self.vits:
            heads = self.vits[subject].model.heads
            for head, output in enumerate(value.unflatten(-1, (heads, -1)).unbind(-2)):
                self._keep(subject, head, output)
        else:
            self._keep(subject, self.cnns[subject].index(tap.layer), value)

    def _keep(self, subject: int, row: int, value: torch.Tensor) -> None:
        gram = centred_gram(value)
        self.grams[subject, row] = gram_or_nan(gram)
        if gram.problem:
            self.problems.setdefault((subject, row), gram.problem)

    def end_batch(self, batch: Batch) -> None:
        for (v, c), kept in self.hsic.items():
            rows = [(v, head) for head in range(self.vits[v].model.heads)]
            rows += [(c, layer) for layer in range(len(self.cnns[c]))]
            grams = torch.stack([self.grams[row] for row in rows])
            kept.append(pairwise_hsic(grams, batch.stop - batch.start).cpu().numpy())

    def result(self) -> Result:
        subjects = self.study.subjects
        arrays: dict[str, Array] = {}
        metrics: dict[str, float] = {}
        labels = {f"layer[{subjects[c].name}]": names for c, names in self.cnns.items()}
        for (s, row), problem in self.problems.items():
            what = self.cnns[s][row] if s in self.cnns else f"{self.vits[s].layer} head {row + 1}"
            self.notes.append(f"{subjects[s].name}: {what} {problem} in a batch")
        for v, vit in self.vits.items():
            name = vit.model.name
            distances = self.distances[v].mean()
            if not np.isfinite(distances).all():
                self.notes.append(
                    f"{name}: skipped, since a head of {vit.layer} has no attention distance"
                )
                continue
            arrays[f"distance/{name}"] = Array(distances, (f"head[{name}]",), "pixels")
            arrays[f"patch/{name}"] = Array(np.array(vit.model.grid.patch), (), "pixels")
            for c in self.cnns:
                self._compare(v, c, distances, arrays, metrics)
        names = tuple(subjects[s].name for s in sorted({*self.vits, *self.cnns}))
        return Result(names, arrays, metrics, labels, tuple(self.notes))

    def _compare(
        self,
        v: int,
        c: int,
        distances: NDArray[np.float64],
        arrays: dict[str, Array],
        metrics: dict[str, float],
    ) -> None:
        name = pair_name(self.vits[v].model.name, self.study.subjects[c].name)
        subsets = head_subsets(distances)
        means = subsets @ distances / subsets.sum(axis=1)
        hsic = subset_hsic(np.stack(self.hsic[v, c]), subsets)
        cells = (slice(None, len(subsets)), slice(len(subsets), None))
        cka = cka_from_hsic(hsic.mean(axis=0))[cells]
        dims = (f"subset[{name}]", f"layer[{self.study.subjects[c].name}]")
        arrays[f"subsets/{name}"] = Array(subsets, (dims[0], f"head[{self.vits[v].model.name}]"))
        arrays[f"subset_distance/{name}"] = Array(means, dims[:1], "pixels")
        arrays[f"cka/{name}"] = Array(cka, dims)
        if len(hsic) >= 2:
            ends = cka_interval(hsic)
            arrays[f"low/{name}"] = Array(ends[0][cells], dims)
            arrays[f"high/{name}"] = Array(ends[1][cells], dims)
        else:
            self.notes += [f"{name}: no intervals: they come from batches, of which there is one"]
        metrics[f"local-heads/{name}/distance_range"] = float(means[-1] - means[0])
        ranks = np.array([rank_correlation(means, column) for column in cka.T])
        arrays[f"spearman/{name}"] = Array(ranks, dims[1:])
        for what, values in (("spearman", ranks), ("local_minus_global", cka[0] - cka[-1])):
            if np.isfinite(values).all():
                metrics[f"local-heads/{name}/{what}"] = float(values.mean())
            else:
                self.notes.append(
                    f"{name}: no {what}: it needs {FEWEST_SUBSETS} subsets of heads (there are "
                    f"{len(subsets)}) with different distances and a CKA with every layer"
                )
