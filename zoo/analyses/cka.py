"""Centred kernel alignment (CKA): how alike are the representations of two layers?

Linear CKA by the unbiased minibatch estimator of Nguyen et al. 2021, as in Raghu et al. 2021
(Figs 1, 2, B.1): HSIC is averaged over batches and the ratio is formed once, at the end.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About
from zoo.analyses.cka_figures import INNER, draw_models, draw_pair
from zoo.capture.hook_points import HookPoint
from zoo.measures.linear_cka import (
    IS_CONSTANT,
    CentredGram,
    centred_gram,
    cka_from_hsic,
    cka_interval,
    pairwise_hsic,
)
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Array, Result, Scale, pair_name
from zoo.study.spatial_layout import name_copies, name_sorted, pool_activation

ABOUT = About(
    name="cka",
    title="Similarity of representations (CKA)",
    shows=(
        "How alike two layers arrange the same images: 1 means the same up to rotation and "
        "scale, 0 means unrelated. Every layer is compared with every layer, within each model "
        "and across models."
    ),
    reading=(
        "Both axes run from input to output. A bright block is a stage whose layers do the same "
        "work; a bright band across models says which depth of one matches which depth of the "
        "other. Hatched cells could not be measured and are named below the figure. A "
        "cell's interval is the jackknife's over batches of images: from few batches it is wide, "
        "and itself uncertain."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 1, 2, B.1; Zhu et al. 2023",
    settings=("layers", "pool", "batch_size", "references", "seed"),
    captions={
        "cka-models": "Mean CKA of every two models.",
        "cka-{}": "CKA of every layer with every layer of {}.",
    },
)


def start(study: Study) -> Accumulator:
    """Begin a comparison of all layers of all subjects."""
    return _Pairwise(study)


class _Pairwise(Accumulator):
    """Keeps one Gram matrix a layer for the current batch, and HSIC of all pairs.

    Of pairs of the models' own layers it keeps HSIC a batch, for intervals; of the others the sum.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.rows = [(s, name) for s, sub in enumerate(study.subjects) for name in sub.layers]
        self.position = {row: i for i, row in enumerate(self.rows)}
        self.grams: torch.Tensor | None = None
        self.fired: set[int] = set()
        self.constant: set[int] = set()  # in a batch; the others may still tell images apart
        self.problems: dict[int, str] = {}
        # Asked for once: small arrays kept from each batch would lie scattered between the
        # activations, and the memory of these could not be used again.
        most = math.ceil(len(study.images) / study.settings.batch_size)
        own = sum(study.subjects[s].role == "model" for s, _ in self.rows)  # they come first
        self.hsic = np.empty((most, own, own))
        self.total = np.zeros((len(self.rows), len(self.rows)))
        self.floor = np.zeros((len(self.rows), len(self.rows)))
        self.batches = 0
        self.random = np.random.default_rng(study.settings.seed)
        self.last = _LastGram()

    def hook_points(self, subject: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.study.subjects[subject].layers]

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
        if self.study.settings.pool != "flatten":
            of = self.study.subjects[subject]
            value = pool_activation(value, self.study.settings.pool, of, tap.layer)
        gram = self.last.of(value)
        if self.grams is None or self.grams.shape[1] != gram.values.numel():
            shape = (len(self.rows), gram.values.numel())
            self.grams = torch.zeros(shape, dtype=torch.float64, device=value.device)
        row = self.position[subject, tap.layer]
        self.grams[row] = gram.values
        self.fired.add(row)
        if gram.problem == IS_CONSTANT:
            self.constant.add(row)
        elif gram.problem:
            self.problems.setdefault(row, gram.problem)

    def end_batch(self, batch: Batch) -> None:
        if self.grams is None:
            return
        n = batch.stop - batch.start
        hsic = pairwise_hsic(self.grams, n).cpu().numpy()
        own = self.hsic.shape[1]
        self.hsic[self.batches] = hsic[:own, :own]
        self.total += hsic
        self.batches += 1
        # The floor: the same layers, each image of one side taken for another, at random.
        order = torch.from_numpy(self.random.permutation(n)).to(self.grams.device)
        shuffled = self.grams.view(-1, n, n)[:, order][:, :, order].reshape(-1, n * n)
        self.floor += (self.grams @ shuffled.T / (n * (n - 3))).cpu().numpy()

    def result(self) -> Result:
        mean = self.total / self.batches
        for row in range(len(self.rows)):
            if row not in self.fired:
                self.problems[row] = "never ran"
            elif not mean[row, row] > 0:
                why = IS_CONSTANT if row in self.constant else "has no positive self-HSIC"
                self.problems.setdefault(row, why)
        bad = sorted(self.problems)
        mean[bad, :] = np.nan
        mean[:, bad] = np.nan
        cka = cka_from_hsic(mean)
        own = np.sqrt(np.diagonal(mean))
        floor = self.floor / self.batches / own[:, None] / own[None, :]
        hsic = self.hsic[: self.batches]
        lost = [row for row in bad if row < hsic.shape[1]]
        hsic[:, lost] = np.nan
        return _summarise(self.study, self.rows, cka, floor, hsic, self.problems)


class _LastGram:
    """The Gram matrix of the last layer, for layers that hand on the tensor they were given.

    Dropout at rest and identities do, and a container after its last part: of all modules of a
    timm ViT, almost half. The tensor is not kept alive.
    """

    def __init__(self) -> None:
        self.tensor: Callable[[], torch.Tensor | None] = lambda: None
        self.version = 0
        self.gram = CentredGram(torch.empty(0))

    def of(self, value: torch.Tensor) -> CentredGram:
        if value.is_inference():  # does not count the operations that work on it in place
            return centred_gram(value)
        if self.tensor() is not value or self.version != value._version:
            self.gram = centred_gram(value)
            self.tensor, self.version = weakref.ref(value), value._version
        return self.gram


def _summarise(
    study: Study,
    rows: list[tuple[int, str]],
    cka: NDArray[np.float64],
    floor: NDArray[np.float64],
    hsic: NDArray[np.float64],
    problems: dict[int, str],
) -> Result:
    subjects = study.subjects
    of = {
        s: np.array([i for i, row in enumerate(rows) if row[0] == s]) for s in range(len(subjects))
    }
    arrays: dict[str, Array] = {}
    metrics: dict[str, float] = {}
    labels = {f"layer[{sub.name}]": sub.layers for sub in subjects}
    labels |= {f"{INNER}[{sub.name}]": _inner(sub) for sub in subjects if sub.role == "model"}
    notes = [
        f"{subjects[rows[i][0]].name}: layer {rows[i][1]} {why}"
        for i, why in sorted(problems.items())
    ]
    notes += name_copies(study.images)
    notes += name_sorted(study.labels, study.settings.batch_size)
    ends = None
    if len(hsic) >= 2:
        ends = cka_interval(hsic)
        metrics["cka/batches"] = len(hsic)
    else:
        notes.append("no intervals: they come from batches, and there is only one")
    models = [s for s, sub in enumerate(subjects) if sub.role == "model"]
    for a in models:
        for b in models[models.index(a) :]:
            cells = np.ix_(of[a], of[b])
            name = pair_name(subjects[a].name, subjects[b].name)
            dims = (f"layer[{subjects[a].name}]", f"layer[{subjects[b].name}]")
            arrays[f"cka/{name}"] = Array(cka[cells], dims)
            if ends is not None:
                arrays[f"low/{name}"] = Array(ends[0][cells], dims)
                arrays[f"high/{name}"] = Array(ends[1][cells], dims)
            if a != b:
                metrics |= _across(name, cka[cells])
                metrics[f"cka/{name}/permuted_images"] = _mean(floor[cells])
        metrics |= _within(subjects[a], cka[np.ix_(of[a], of[a])])
    for s, sub in enumerate(subjects):
        if sub.role != "model":
            metrics |= _reference(subjects, s, of, cka, models)
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    names = tuple(sub.name for sub in study.models)
    scales = {"cka": Scale("CKA", 0, 1)}
    return Result(names, arrays, metrics, labels, tuple(notes), scales=scales)


def _across(name: str, cka: NDArray[np.float64]) -> dict[str, float]:
    return {
        f"cka/{name}/mean": _mean(cka),
        f"cka/{name}/best_match_mean": _mean(_best(cka)),
    }


def _inner(subject: ComparedNetwork) -> tuple[str, ...]:
    """Return a model's compared layers that are its stem or a block: all but head and insides."""
    return tuple(n for n in subject.layers if subject.trace[n].role in ("stem", "block"))


def _within(subject: ComparedNetwork, cka: NDArray[np.float64]) -> dict[str, float]:
    """Likeness of a model's blocks across depth: all pairs, and first with last quarter."""
    blocks = [subject.layers.index(name) for name in _inner(subject)]
    inner = cka[np.ix_(blocks, blocks)]
    quarter = max(1, len(blocks) // 4)
    off_diagonal = inner[~np.eye(len(blocks), dtype=bool)]
    return {
        f"cka/{subject.name}/off_diagonal_mean": _mean(off_diagonal),
        f"cka/{subject.name}/first_last_quarter": _mean(inner[:quarter, -quarter:]),
    }


def _reference(
    subjects: tuple[ComparedNetwork, ...],
    s: int,
    of: dict[int, NDArray],
    cka: NDArray[np.float64],
    models: list[int],
) -> dict[str, float]:
    """Ceiling: a layer with itself under another seed. Floor: with another, untrained model."""
    reference = subjects[s]
    own = subjects[reference.of].name
    if reference.role == "seed" and reference.layers == subjects[reference.of].layers:
        same = np.diagonal(cka[np.ix_(of[reference.of], of[s])])
        return {f"cka/{own}/other_seed_same_layer": _mean(same)}
    if reference.role == "seed":
        return {}
    return {
        f"cka/{pair_name(own, subjects[m].name)}/untrained_mean": _mean(cka[np.ix_(of[s], of[m])])
        for m in models
        if m != reference.of
    }


def _best(cka: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = ~np.isnan(cka).all(axis=1)
    return np.nanmax(cka[defined], axis=1) if defined.any() else np.array([np.nan])


def _mean(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def draw(result: Result) -> dict[str, Figure]:
    """Draw all models at a glance where they are more than two, then each pair's layers."""
    if len(result.models) == 1:
        (name,) = result.models
        return {f"cka-{name}": draw_pair(result, name, name)}
    figures = {"cka-models": draw_models(result)} if len(result.models) > 2 else {}
    pairs = combinations(result.models, 2)
    return figures | {f"cka-{pair_name(a, b)}": draw_pair(result, a, b) for a, b in pairs}
