"""Centred kernel alignment (CKA): how alike are the representations of two layers?

Linear CKA by the unbiased minibatch estimator of Nguyen et al. 2021, as in Raghu et al. 2021
(Figs 1, 2, B.1): HSIC is averaged over batches and the ratio is formed once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses import best_matches
from zoo.analyses.about import About, Drawing
from zoo.analyses.cka_figures import draw_image_sets, draw_models, draw_pair
from zoo.analyses.image_sets import metrics_of
from zoo.capture.hook_points import HookPoint
from zoo.measures.deconfounded import without_given
from zoo.measures.hsic_replicates import HsicReplicates, hsic_among
from zoo.measures.intervals import mean_defined
from zoo.measures.leverage import leverage, without_dominant
from zoo.measures.linear_cka import (
    IS_CONSTANT,
    PROBLEMS,
    centred_gram,
    cka_from_hsic,
)
from zoo.measures.permutation import PERMUTATIONS, permuted_hsic
from zoo.measures.replicates import INTERVAL, Replicates
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.axes import Scale, column, interval, layer_axis, select, variable
from zoo.study.networks import Study
from zoo.study.replicates import replicated
from zoo.study.results import INITIAL, SIGNED, Metric, Result
from zoo.study.spatial_layout import name_copies, name_sorted, pool_activation

ABOUT = About(
    name="cka",
    title="Similarity of representations (CKA)",
    shows=(
        "How similarly two layers arrange the same images: 1 means the same up to rotation and "
        "scale, 0 means unrelated. Every layer is compared with every layer, within each model and "
        "across models. It is linear CKA with unbiased HSIC averaged over minibatches (Nguyen et "
        "al. 2021)."
    ),
    reading=(
        "Both axes run from input to output. A bright block is a stage whose layers do the same "
        "work; a bright band across models says which depth of one matches which depth of the "
        "other. Hatched cells could not be measured and are named below the figure. A cell's "
        "interval comes from a jackknife over groups of images. The baseline of a best match is "
        "the best match after permuting the images of one network, the same way in all its layers, "
        "200 times. Dominant images are the 5 % of highest leverage: where the map without them "
        "differs much, CKA rests on a few images."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 1, 2, B.1; Zhu et al. 2023",
    settings=("layers", "pool", "batch_size", "references", "seed"),
    captions={
        "cka-images-{}": "CKA of the layers of {} on each set of images; rows are the first's.",
        "cka-models": "Mean CKA of every two models.",
        "cka-{}": "CKA of every layer with every layer of {}.",
    },
    metrics={
        "batches": "batches that HSIC is averaged over",
        "mean_all_pairs": "mean CKA over all pairs of layers",
        "mean_deconfounded": "the same without what the pixels explain",
        "mean_without_dominant": "the same without the 5 % of images of highest leverage",
        "mean_best_match": "CKA of each layer's best match, mean",
        "best_match_permuted": "the same with the images of one network permuted",
        "best_match_p": "share of permutations with a mean best match as high (p)",
        "mean_best_match_deconfounded": "deconfounded CKA of each layer's best match, mean",
        "best_match_deconfounded_permuted": "the same with the images of one network permuted",
        "best_match_deconfounded_p": "share of permutations with a mean best match as high (p)",
        "mean_same_layer": "mean CKA of each layer with the same layer",
        "mean_off_diagonal": "mean CKA of different layers, stem and blocks",
        **metrics_of("cka", "CKA"),
        **metrics_of("cka_deconfounded", "deconfounded CKA"),
    },
    unit=SIGNED,
    units={
        "batches": "number",
        **dict.fromkeys(("best_match_p", "best_match_deconfounded_p"), ""),
        **dict.fromkeys(("cka_set_same_match", "cka_deconfounded_set_same_match"), ""),
    },
)

SCALE = Scale("CKA", 0, 1)
DECONFOUNDED = Scale("CKA without what the pixels explain", 0, 1)
WITHOUT_DOMINANT = Scale("CKA without dominant images", 0, 1)
EXPLAINED = "is explained by the pixels: no deconfounded CKA"
DOMINATED = "varies in a few images only: no CKA without them"
MEANS = {  # of all pairs of two networks' layers
    "mean_all_pairs": "cka",
    "mean_deconfounded": "cka_deconfounded",
    "mean_without_dominant": "cka_without_dominant",
}


def start(study: Study) -> Accumulator:
    """Begin a comparison of all layers of all networks.

    Raises:
        NotApplicable: no compared network has a layer that can be watched.
    """
    if not any(network.layers for network in study.compared):
        raise NotApplicable(
            "no model has layers that can be watched: a module without parts has none, and those "
            "of a scripted or exported network cannot be"
        )
    return _Pairwise(study)


class _Pairwise(Accumulator):
    """Keeps one Gram matrix per layer for the current batch, and HSIC of all pairs.

    The last row is that of the images' pixels. HSIC is kept without each group of images, for
    intervals, and between the compared networks for every permutation, for p-values.
    """

    gathers = ("hsic", "common", "permuted", "batches", "fired", "constant", "problems")

    def __init__(self, study: Study) -> None:
        self.study = study
        self.rows = [(s, name) for s, net in enumerate(study.networks) for name in net.layers]
        self.position = {row: i for i, row in enumerate(self.rows)}
        self.grams: torch.Tensor | None = None
        # What is wrong with each layer, on the device until the batch ends: to ask is to wait.
        self.codes: list[tuple[int, torch.Tensor]] = []
        self.fired: set[int] = set()
        self.constant: set[int] = set()  # in a batch; the others may still tell images apart
        self.problems: dict[int, str] = {}
        layers = len(self.rows) + 1
        most = math.ceil(len(study.images) / study.settings.batch_size)
        self.hsic = HsicReplicates(batches=most, layers=layers)
        self.common = np.zeros((layers, layers))  # of the images that do not dominate
        self.permuted = {
            (a, b): np.zeros(
                (PERMUTATIONS, *(len(study.networks[s].layers) + 1 for s in (a, b)))  # and pixels
            )
            for a, b in combinations(range(len(study.compared)), 2)
        }
        self.batches = 0
        self.random = np.random.default_rng(study.settings.seed)

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [self._gram(index, name) for name in self.study.networks[index].layers]

    def _gram(self, index: int, layer: str) -> HookPoint:
        """Return a layer's Gram matrix, and after it what is wrong with it."""
        pool, of = self.study.settings.pool, self.study.networks[index]

        def take(value: torch.Tensor) -> torch.Tensor:
            pooled = pool_activation(value, pool, of, layer) if pool != "flatten" else value
            gram = self.study.centred_gram(pooled)
            return torch.cat((gram.values, gram.code[None]))

        return HookPoint(layer, taken=f"centred Gram matrix ({pool})", take=take)

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        values, code = value[:-1], value[-1]
        if self.grams is None or self.grams.shape[1] != len(values):
            shape = (len(self.rows) + 1, len(values))
            self.grams = torch.zeros(shape, dtype=torch.float64, device=value.device)
        row = self.position[index, hook_point.layer]
        self.grams[row] = values
        self.fired.add(row)
        self.codes.append((row, code))

    @torch.inference_mode()  # a network may have made its tensors so
    def end_batch(self, batch: Batch) -> None:
        if self.grams is None:
            return
        n = batch.stop - batch.start
        pixels = torch.as_tensor(batch.images, device=self.grams.device)
        self.grams[-1] = centred_gram(pixels).values
        hsic = self.hsic.add(self.grams)
        self.batches += 1
        rows, codes = zip(*self.codes, strict=True)
        for row, code in zip(rows, torch.stack(codes).long().tolist(), strict=True):
            if PROBLEMS[code] == IS_CONSTANT:
                self.constant.add(row)
            elif code:
                self.problems.setdefault(row, PROBLEMS[code])
        for row in set(range(len(self.rows))) - set(rows):
            self.problems.setdefault(row, "did not run on every batch")
        self.codes = []
        compared = torch.tensor([self.study.networks[s].compared for s, _ in self.rows] + [False])
        common = np.isin(np.arange(n), without_dominant(leverage(self.grams[compared])))
        self.common += hsic_among(self.grams, hsic, common)
        orders = self._orders(n)
        for a, b in self.permuted:
            own, other = (self.grams[[*self._rows_of(s), len(self.rows)]] for s in (a, b))
            self.permuted[a, b] += permuted_hsic(own, other, orders).cpu().numpy()

    def skip_batch(self, start: int, stop: int) -> None:
        self._orders(stop - start)

    def _orders(self, images: int) -> NDArray[np.int64]:
        return np.stack([self.random.permutation(images) for _ in range(PERMUTATIONS)])

    def _rows_of(self, s: int) -> list[int]:
        return [self.position[s, name] for name in self.study.networks[s].layers]

    def result(self) -> Result:
        hsic = self.hsic.result()
        own = np.diagonal(hsic.whole)
        for row in range(len(self.rows)):
            if row not in self.fired:
                self.problems[row] = "never ran"
            elif not own[row] > 0:
                why = IS_CONSTANT if row in self.constant else "has no positive self-HSIC"
                self.problems.setdefault(row, why)
        bad = sorted(self.problems)
        for matrix in (hsic.whole, self.common, *hsic.without):
            matrix[bad, :] = np.nan
            matrix[:, bad] = np.nan
        permuted = {pair: total / self.batches for pair, total in self.permuted.items()}
        return self._summarise(hsic, best_matches.cka_nulls(self.rows, hsic.whole, permuted))

    def _summarise(
        self, hsic: Replicates, nulls: tuple[best_matches.Nulls, best_matches.Nulls]
    ) -> Result:
        study, rows, dims = self.study, self.rows, ("layer", "layer_b")
        networks = study.networks
        cka = hsic.map(lambda values: cka_from_hsic(values)[:-1, :-1])
        learnt = hsic.map(lambda values: cka_from_hsic(without_given(values, -1))[:-1, :-1])
        without = cka_from_hsic(self.common)[:-1, :-1]
        notes = [
            f"{networks[rows[i][0]].name}: {networks[rows[i][0]].label(rows[i][1])} {why}"
            for i, why in sorted(self.problems.items())
            if networks[rows[i][0]].compared
        ]
        notes += name_copies(study.images)
        by_class = name_sorted(study.labels, study.settings.batch_size)
        notes += by_class
        for values, why in ((learnt.whole, EXPLAINED), (without, DOMINATED)):
            notes += [
                f"{networks[s].name}: {networks[s].label(layer)} {why}"
                for i, (s, layer) in enumerate(rows)
                if networks[s].compared and np.isfinite(cka.whole[i, i]) > np.isfinite(values[i, i])
            ]
        if not cka.freedom:
            notes.append(
                "no intervals: they come from groups of images, and there are fewer than 8"
            )
        variables: dict[str, Any] = {}
        metrics = [Metric("batches", self.batches)]
        for name, found, scale, null in (
            ("cka", cka, SCALE, nulls[0]), ("cka_deconfounded", learnt, DECONFOUNDED, nulls[1])
        ):  # fmt: skip
            matched = list(best_matches.match(rows, found.whole, null))
            metrics += best_matches.metrics(study, matched, name.removeprefix("cka"))
            if matched:
                of = name, rows, matched, len(study.compared)
                variables |= best_matches.variables(*of, scale)
            variables |= replicated(name, dims, found, scale=scale)
            if found.freedom:
                ends = found.similarity_interval()
                variables[f"{name}_ci"] = interval(dims, *ends, kind=INTERVAL)
        variables["cka_without_dominant"] = variable(dims, without, scale=WITHOUT_DOMINANT)
        axes = [(networks[s], layer) for s, layer in rows]
        coordinates: dict[str, Any] = {**layer_axis(axes), **layer_axis(axes, "layer_b")}
        if len(study.compared) > 1:
            coordinates["matched"] = column([network.name for network in study.compared])
        data = xr.Dataset(variables, coordinates, {"sorted_by_class": int(bool(by_class))})
        metrics += _metrics(study, data)
        return Result(data, metrics=tuple(metrics), notes=tuple(notes))


def _metrics(study: Study, data: xr.Dataset) -> Iterator[Metric]:
    """Yield a number or two of every network and of every pair."""
    cka = data["cka"]
    for network in study.networks:
        name = network.name
        yield Metric("mean_off_diagonal", mean_off_diagonal(cka, name), name)
    compared = [network.name for network in study.compared]
    for i, a in enumerate(compared):
        for b in compared[i + 1 :]:
            for measure, name in MEANS.items():
                yield Metric(measure, mean_defined(select(data[name], a, b).values), a, b)
    first = [network for _, network in study.of_first_seeds]
    for reference in study.networks:
        if reference.compared:
            continue
        if reference.state == INITIAL:
            for other in compared if reference in first else ():
                if other != reference.of:
                    cells = select(cka, reference.name, other).values
                    yield Metric("mean_all_pairs", mean_defined(cells), reference.name, other)
        elif reference.layers == next(n.layers for n in study.compared if n.name == reference.of):
            same = np.diagonal(select(cka, reference.of, reference.name).values)
            yield Metric("mean_same_layer", mean_defined(same), reference.of, reference.name)


def mean_off_diagonal(cka: xr.DataArray, network: str) -> float:
    """Return the mean CKA of different layers of a network: stem and blocks, without the head."""
    roles = {"role": ("stem", "block"), "role_b": ("stem", "block")}
    inner = select(cka, network, network, **roles).values
    return mean_defined(inner[~np.eye(len(inner), dtype=bool)])


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw all networks at a glance where they are more than two, then each pair's layers."""
    compared = [name for name in compared if name in result.networks]
    if len(compared) == 1:
        (name,) = compared
        return [Drawing("cka-{}", draw_pair(result, name, name), (name,))]
    glance = [Drawing("cka-models", draw_models(result, compared))] if len(compared) > 2 else []
    pairs = list(combinations(compared, 2))
    drawn = glance + [Drawing("cka-{}", draw_pair(result, a, b), (a, b)) for a, b in pairs]
    if "image_set" in result.data.coords:
        drawn += [Drawing("cka-images-{}", draw_image_sets(result, *of), of) for of in pairs]
    return drawn
