"""Where two networks differ: which images one of them alone gets right, or puts together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from zoo.analyses.about import About, Drawing
from zoo.analyses.differences_figures import draw_confusion, draw_gallery, draw_groups, of_pair
from zoo.capture.hook_points import HookPoint
from zoo.measures.agreement import (
    BOTH,
    FIRST,
    NEITHER,
    error_consistency_interval,
    who_is_right,
)
from zoo.measures.calibration import log_probabilities
from zoo.measures.difference_groups import STABLE, Group, difference_groups, neighbour_ranks
from zoo.measures.features import DegenerateError
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.answers import predictions, rated_networks
from zoo.study.axes import column, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import SIGNED, Metric, Result
from zoo.study.spatial_layout import choose_images, last_block, mean_point

ABOUT = About(
    name="differences",
    title="Where they differ",
    shows=(
        "The images that only one network classifies correctly, those that both do and those that "
        "neither does; which classes each confuses; and groups of images that lie close together "
        "in one network's last block and far apart in the other's."
    ),
    reading=(
        "In each row of the gallery, the images on which the networks' probabilities of the true "
        "class are farthest apart come first. A group is shown only if it returns in bootstrap "
        "samples of the images. Its numbers are mean ranks of its images among each other's "
        "neighbours: 0 is nearest, 0.5 the value for random images."
    ),
    needs="activations",
    source="Kondapaneni et al. 2025 (RDX); error consistency: Geirhos et al. 2020; "
    "stability: Hennig 2007",
    settings=("seed",),
    captions={
        "differences-gallery-{}": "Images that one, both or neither of {} classify correctly.",
        "differences-groups-{}": "Images that one of {} puts together and the other does not.",
        "differences-confusion": "Which classes are confused.",
    },
    metrics={
        "error_consistency": "error consistency (κ: 0 independent, 1 the same)",
        "only_first": "share of images that the first alone classifies correctly",
        "stable_groups": "stable groups, close in the first and far in the second",
    },
    units={"stable_groups": "number", "error_consistency": SIGNED},
)

IMAGES = 384  # spectral clustering takes the cube of their number
GROUPS = 8
SHOWN = 8  # pictures in a row
ROWS = 3  # groups a direction
THUMBNAIL = 128  # pixels
MOST_CLASSES = 30  # whose confusion can be read on a page
KINDS = {"only the first": FIRST, "both": BOTH, "neither": NEITHER}
GROUP_NUMBERS = ("group_size", "group_near", "group_far", "group_stability")
Found = tuple[dict[str, Any], NDArray[np.int64], list[Metric]]


def start(study: Study) -> Accumulator:
    """Begin.

    Raises:
        NotApplicable: fewer than two networks.
    """
    if len(study.compared) < 2:
        raise NotApplicable("there is one model only")
    return _Differences(study)


class _Differences(Accumulator):
    """Keeps the outputs, and the last block's mean over places of some hundred images."""

    gathers = ("logits", "their_answers", "features")

    def __init__(self, study: Study) -> None:
        self.study = study
        self.names = [network.name for network in study.compared]
        self.rows = choose_images(len(study.images), IMAGES, study.settings.seed)
        self.notes: list[str] = []
        self.rated: Mapping[int, ComparedNetwork] = {}
        try:
            self.rated, self.notes = rated_networks(study, "no answers to compare")
        except NotApplicable as reason:
            self.notes.append(f"no answers to compare: {reason}")
        self.logits: dict[int, list[torch.Tensor]] = {s: [] for s in self.rated}
        # Whether networks err together is tested before training and in other seeds as well.
        rated = {network.name for network in self.rated.values()}
        self.others = {
            s: network
            for s, network in enumerate(study.networks)
            if not network.compared and network.of in rated
        }
        self.their_answers: dict[int, list[NDArray[np.int64]]] = {s: [] for s in self.others}
        self.layers = {s: last_block(network) for s, network in enumerate(study.compared)}
        self.features: dict[int, list[torch.Tensor]] = {s: [] for s in self.layers}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        layer = self.layers.get(index)
        return [mean_point(self.study.compared[index], layer)] if layer else []

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        rows = torch.from_numpy(self.rows_of(self.rows, len(value)))
        self.features[index].append(value[rows].cpu())

    def end_batch(self, batch: Batch) -> None:
        for s in self.rated:
            self.logits[s].append(batch.logits[s].float().cpu())
        for s, answers in self.their_answers.items():
            answers.append(predictions(batch.logits[s]))

    def result(self) -> Result:
        pairs = list(permutations(range(len(self.names)), 2))
        ends = [column([self.names[pair[end]] for pair in pairs]) for end in (0, 1)]
        data = xr.Dataset(coords={"network": ("pair", ends[0]), "network_b": ("pair", ends[1])})
        metrics: list[Metric] = []
        chosen: set[int] = set()
        for add in (self._answers, self._groups):
            variables, images, found = add(pairs)
            data = data.assign(variables)
            chosen |= {int(i) for i in images.ravel() if i >= 0}
            metrics += found
        shown = sorted(chosen)
        pixel = ("picture", "pixel_row", "pixel_column", "channel")
        data = data.assign(pictures=variable(pixel, _thumbnails(self.study.images, shown)))
        data = data.assign_coords(picture=np.array(shown, dtype=np.int64))
        if self.rated:
            data = data.assign_coords(
                {"class": column(self.study.class_names), "label": ("image", self.study.labels)}
            )
        return Result(data, metrics=tuple(metrics), notes=tuple(self.notes))

    def _answers(self, pairs: Sequence[tuple[int, int]]) -> Found:
        """Return answers, confusion, and for each pair the images that one or both get right."""
        from sklearn.metrics import confusion_matrix

        gallery = np.full((len(pairs), len(KINDS), SHOWN), -1)
        if not self.rated:
            return {}, gallery, []
        labels, classes = np.asarray(self.study.labels), range(len(self.study.class_names))
        logits = {s: torch.cat(parts) for s, parts in self.logits.items()}
        answers = {s: predictions(values) for s, values in logits.items()}
        chance = {
            s: np.exp(log_probabilities(values.numpy())[np.arange(len(labels)), labels])
            for s, values in logits.items()
        }
        counts = np.full((len(pairs), len(KINDS)), np.nan)
        metrics: list[Metric] = []
        for p, (a, b) in enumerate(pairs):
            if a not in self.rated or b not in self.rated:
                continue
            right = answers[a] == labels, answers[b] == labels
            who = who_is_right(*right)
            apart = np.argsort(-np.abs(chance[a] - chance[b]), kind="stable")
            for k, kind in enumerate(KINDS.values()):
                images = apart[who[apart] == kind]
                counts[p, k] = len(images)
                gallery[p, k, : len(images[:SHOWN])] = images[:SHOWN]
            names = self.names[a], self.names[b]
            alone = float((who == FIRST).mean())
            metrics.append(Metric("only_first", alone, *names, pair="directed"))
            if a < b:
                kappa = error_consistency_interval(*right)
                metrics.append(Metric.of("error_consistency", kappa, *names))
        theirs = {s: np.concatenate(parts) == labels for s, parts in self.their_answers.items()}
        for a, b in combinations(theirs, 2):
            one, other = self.others[a], self.others[b]
            if one.state == other.state and one.of != other.of:
                kappa = error_consistency_interval(theirs[a], theirs[b])
                metrics.append(Metric.of("error_consistency", kappa, one.name, other.name))
        # What is no class, of outputs that are no numbers, is counted nowhere.
        confusion = [confusion_matrix(labels, of, labels=classes) for of in answers.values()]
        variables = {
            "answer": variable(("rated", "image"), np.stack(list(answers.values()))),
            "confusion": variable(("rated", "class", "answered"), np.stack(confusion)),
            "gallery": variable(("pair", "kind", "place"), gallery),
            "gallery_images": variable(("pair", "kind"), counts),
            "rated": column([network.name for network in self.rated.values()]),
            "kind": column(list(KINDS)),
        }
        return variables, gallery, metrics

    def _groups(self, pairs: Sequence[tuple[int, int]]) -> Found:
        """Return for each pair the groups of images close in the first and far in the second."""
        ranks = {}
        for s, name in enumerate(self.names):
            if not self.features[s]:
                self.notes.append(f"{name}: no groups, since no block's output lies over the image")
                continue
            try:
                ranks[s] = neighbour_ranks(torch.cat(self.features[s]).numpy())
            except DegenerateError as error:
                self.notes.append(f"{name}: no groups: {self.layers[s]} {error}")
        members = np.full((len(pairs), GROUPS, SHOWN), -1)
        numbers = np.full((4, len(pairs), GROUPS), np.nan)
        metrics: list[Metric] = []
        if len(self.rows) < 4 * GROUPS:
            self.notes.append(f"no groups: they need at least {4 * GROUPS} images")
            ranks = {}
        for p, (a, b) in enumerate(pairs):
            if a not in ranks or b not in ranks:
                continue
            found = difference_groups(
                ranks[a], ranks[b], groups=GROUPS, seed=self.study.settings.seed
            )
            for g, group in enumerate(found):
                images = _central_first(ranks[a], group)
                numbers[:, p, g] = len(images), group.near, group.far, group.stability
                members[p, g, : len(images[:SHOWN])] = self.rows[images[:SHOWN]]
            stable = sum(is_shown(group.stability, group.near, group.far) for group in found)
            names = self.names[a], self.names[b]
            metrics.append(Metric("stable_groups", stable, *names, pair="directed"))
        dims = ("pair", "group")
        each = zip(GROUP_NUMBERS, numbers, strict=True)
        variables = {name: variable(dims, of) for name, of in each}
        return variables | {"group_members": variable((*dims, "place"), members)}, members, metrics


def _thumbnails(images: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
    """Return some images, large ones at the size that they are drawn in."""
    factor = min(1.0, THUMBNAIL / max(images.shape[1:3]))
    size = (round(images.shape[2] * factor), round(images.shape[1] * factor))
    found = [np.asarray(Image.fromarray(images[i]).resize(size)) for i in rows]
    return np.stack(found) if found else np.empty((0, *size[::-1], 3), np.uint8)


def is_shown(stability: float, near: float, far: float) -> bool:
    """Say whether a group returns in bootstrap samples and is closer in the first network."""
    return stability >= STABLE and near < far


def _central_first(ranks: NDArray[np.int64], group: Group) -> NDArray[np.int64]:
    """Return a group's images, those nearest to all of its others first."""
    within = ranks[np.ix_(group.images, group.images)].mean(axis=0)
    return group.images[np.argsort(within, kind="stable")]


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw for every pair the images and the groups that differ, and all networks' confusion."""
    drawn = []
    for a, b in combinations([name for name in compared if name in result.networks], 2):
        if "gallery" in result.data:
            drawn.append(Drawing("differences-gallery-{}", draw_gallery(result, a, b), (a, b)))
        groups = {pair: shown_groups(result, *pair) for pair in ((a, b), (b, a))}
        drawn.append(Drawing("differences-groups-{}", draw_groups(result, groups), (a, b)))
    if "confusion" in result.data and result.data.sizes["class"] <= MOST_CLASSES:
        drawn.append(Drawing("differences-confusion", draw_confusion(result, compared)))
    return drawn


def shown_groups(result: Result, a: str, b: str) -> xr.Dataset:
    """Return a pair's groups that are shown, the most stable first."""
    of = of_pair(result.data[[*GROUP_NUMBERS, "group_members"]], a, b)
    values = zip(of["group_stability"], of["group_near"], of["group_far"], strict=True)
    kept = [i for i, numbers in enumerate(values) if is_shown(*map(float, numbers))]
    return of.isel(group=kept[:ROWS])
