"""Centred kernel alignment (CKA): how alike are the representations of two layers?

Linear CKA by the unbiased minibatch estimator of Nguyen et al. 2021, as in Raghu et al. 2021
(Figs 1, 2, B.1): HSIC is averaged over batches and the ratio is formed once, at the end.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.cka_figures import draw_models, draw_pair
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
from zoo.study.networks import Study
from zoo.study.results import (
    INITIAL,
    Metric,
    Result,
    Scale,
    interval,
    layer_axis,
    select,
    variable,
)
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
    metrics={
        "batches": "batches that the intervals come from (number)",
        "mean_all_pairs": "mean CKA over all pairs of layers",
        "mean_best_match": "CKA of each layer's best match, mean",
        "mean_permuted_images": "mean CKA with shuffled images (0 expected)",
        "mean_same_layer": "mean CKA of each layer with the same layer",
        "mean_off_diagonal": "mean CKA of different layers, stem and blocks",
        "first_last_quarter": "mean CKA of the first with the last quarter of layers",
    },
)

SCALE = Scale("CKA", 0, 1)


def start(study: Study) -> Accumulator:
    """Begin a comparison of all layers of all subjects."""
    return _Pairwise(study)


class _Pairwise(Accumulator):
    """Keeps one Gram matrix a layer for the current batch, and HSIC of all pairs.

    Of pairs of compared networks it keeps HSIC a batch, for intervals; of the others the sum.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.rows = [(s, name) for s, net in enumerate(study.networks) for name in net.layers]
        self.position = {row: i for i, row in enumerate(self.rows)}
        self.grams: torch.Tensor | None = None
        self.fired: set[int] = set()
        self.constant: set[int] = set()  # in a batch; the others may still tell images apart
        self.problems: dict[int, str] = {}
        # Asked for once: small arrays kept from each batch would lie scattered between the
        # activations, and the memory of these could not be used again.
        most = math.ceil(len(study.images) / study.settings.batch_size)
        own = sum(study.networks[s].compared for s, _ in self.rows)  # they come first
        self.hsic = np.empty((most, own, own))
        self.total = np.zeros((len(self.rows), len(self.rows)))
        self.permuted = np.zeros((len(self.rows), len(self.rows)))
        self.batches = 0
        self.random = np.random.default_rng(study.settings.seed)
        self.last = _LastGram()

    def hook_points(self, subject: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.study.networks[subject].layers]

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
        if self.study.settings.pool != "flatten":
            of = self.study.networks[subject]
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
        # The baseline: the same layers, each image of one side taken for another, at random.
        order = torch.from_numpy(self.random.permutation(n)).to(self.grams.device)
        shuffled = self.grams.view(-1, n, n)[:, order][:, :, order].reshape(-1, n * n)
        self.permuted += (self.grams @ shuffled.T / (n * (n - 3))).cpu().numpy()

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
        permuted = self.permuted / self.batches / own[:, None] / own[None, :]
        hsic = self.hsic[: self.batches]
        lost = [row for row in bad if row < hsic.shape[1]]
        hsic[:, lost] = np.nan
        return _summarise(self.study, self.rows, cka, permuted, hsic, self.problems)


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
    permuted: NDArray[np.float64],
    hsic: NDArray[np.float64],
    problems: dict[int, str],
) -> Result:
    networks = study.networks
    axes = [(networks[s], layer) for s, layer in rows]
    dims = ("layer", "layer_b")
    variables = {"cka": variable(dims, cka, scale=SCALE)}
    metrics: list[Metric] = []
    notes = [
        f"{networks[rows[i][0]].name}: layer {rows[i][1]} {why}"
        for i, why in sorted(problems.items())
        if networks[rows[i][0]].compared
    ]
    notes += name_copies(study.images)
    notes += name_sorted(study.labels, study.settings.batch_size)
    if len(hsic) >= 2:
        ends = np.full((2, *cka.shape), np.nan)
        ends[:, : hsic.shape[1], : hsic.shape[1]] = cka_interval(hsic)
        variables["cka_ci"] = interval(dims, *ends, kind="jackknife over batches of images")
        metrics.append(Metric("batches", len(hsic)))
    else:
        notes.append("no intervals: they come from batches, and there is only one")
    data = xr.Dataset(variables, layer_axis(axes) | layer_axis(axes, "layer_b"))
    lost = data["cka"].copy(data=permuted)
    metrics += _metrics(study, data["cka"], lost)
    finite = tuple(metric for metric in metrics if math.isfinite(metric.value))
    return Result(data, metrics=finite, notes=tuple(notes))


def _metrics(study: Study, cka: xr.DataArray, permuted: xr.DataArray) -> Iterator[Metric]:
    """Yield a number or two of every network and of every pair."""
    for network in study.measured:
        name = network.name
        yield Metric("mean_off_diagonal", mean_off_diagonal(cka, name), name)
        yield Metric("first_last_quarter", first_with_last_quarter(cka, name), name)
    compared = [network.name for network in study.compared]
    for i, a in enumerate(compared):
        for b in compared[i + 1 :]:
            cells = select(cka, a, b).values
            yield Metric("mean_all_pairs", mean_defined(cells), a, b)
            yield Metric(
                "mean_best_match", mean_defined(best_matches(cells)), a, b, pair="directed"
            )
            yield Metric(
                "mean_best_match", mean_defined(best_matches(cells.T)), b, a, pair="directed"
            )
            shuffled = mean_defined(select(permuted, a, b).values)
            yield Metric("mean_permuted_images", shuffled, a, b)
    for reference in study.networks:
        if reference.compared:
            continue
        if reference.state == INITIAL:
            for other in compared:
                if other != reference.of:
                    cells = select(cka, reference.name, other).values
                    yield Metric("mean_all_pairs", mean_defined(cells), reference.name, other)
        elif reference.layers == next(n.layers for n in study.compared if n.name == reference.of):
            same = np.diagonal(select(cka, reference.of, reference.name).values)
            yield Metric("mean_same_layer", mean_defined(same), reference.of, reference.name)


def inner_layers(cka: xr.DataArray, network: str) -> xr.DataArray:
    """Return CKA of a network's stem and blocks with each other: without head and insides."""
    roles = {"role": ("stem", "block"), "role_b": ("stem", "block")}
    return select(cka, network, network, **roles)


def mean_off_diagonal(cka: xr.DataArray, network: str) -> float:
    """Return the mean CKA of different layers of a network, stem and blocks."""
    inner = inner_layers(cka, network).values
    return mean_defined(inner[~np.eye(len(inner), dtype=bool)])


def first_with_last_quarter(cka: xr.DataArray, network: str) -> float:
    """Return the mean CKA of the first with the last quarter of a network's stem and blocks."""
    inner = inner_layers(cka, network).values
    quarter = max(1, len(inner) // 4)
    return mean_defined(inner[:quarter, -quarter:])


def best_matches(cka: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest value of each row (rows, columns) that has one."""
    defined = ~np.isnan(cka).all(axis=1)
    return np.nanmax(cka[defined], axis=1) if defined.any() else np.array([np.nan])


def mean_defined(values: NDArray[np.float64]) -> float:
    """Return the mean of what is finite; NaN where nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw all networks at a glance where they are more than two, then each pair's layers."""
    if len(compared) == 1:
        (name,) = compared
        return [Drawing("cka-{}", draw_pair(result, name, name), (name,))]
    glance = [Drawing("cka-models", draw_models(result, compared))] if len(compared) > 2 else []
    pairs = combinations(compared, 2)
    return glance + [Drawing("cka-{}", draw_pair(result, a, b), (a, b)) for a, b in pairs]
