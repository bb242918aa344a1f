"""Robustness: what must an image keep for a network to be right?

Patches that are dropped and tiles that are shuffled, after Naseer et al. 2021; five corruptions of
Hendrycks & Dietterich 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.class_maps import rollout_maps
from zoo.analyses.robustness_figures import draw_curves, draw_examples
from zoo.measures.corruptions import CONSTANTS, STRENGTHS, WORDS, corrupt
from zoo.measures.intervals import mean_interval, ratio_values
from zoo.measures.occlusion import drop_patches, random_order, shuffle_tiles
from zoo.models.preprocess import model_input
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.answers import commonest_share, logits_on, predictions, rated_networks, with_seeds
from zoo.study.attention_layers import attending_networks
from zoo.study.axes import column, estimate, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import RANGES, Metric, Result
from zoo.study.spatial_layout import choose_images

RANDOM, MOST, LEAST = "random patches", "most attended", "least attended"
TILES = "shuffled tiles"
KINDS = (RANDOM, MOST, LEAST, TILES, *CONSTANTS)
MEASURES = {kind: f"kept_{kind.replace(' ', '_')}" for kind in KINDS}
GUESSING = "kept_by_guessing"
CHANGED = {
    TILES: TILES,
    **WORDS,
    RANDOM: "random patches dropped",
    MOST: "most attended patches dropped",
    LEAST: "least attended patches dropped",
}

ABOUT = About(
    name="robustness",
    title="What an image must keep",
    shows=(
        "How much of its accuracy a network keeps when patches are dropped (at random, or those "
        "that a ViT attends to most or least), when the image is cut into tiles that are shuffled, "
        "and under five corruptions of five strengths."
    ),
    reading=(
        "1 is the accuracy on the unchanged images; the lower a curve falls, the more the network "
        "needed what was removed. The dashed line is what always naming the commonest class would "
        "keep: the less accurate the network, the higher. Bands are 95 % intervals over images; "
        "two networks are compared on the same ones."
    ),
    needs="outputs",
    source="Naseer et al. 2021, Figs 2, 3, 8; Hendrycks & Dietterich 2019",
    settings=("batch_size", "seed"),
    captions={
        "robustness-curves": "Share of its accuracy that each network keeps, and would by guessing "
        "(dashed).",
        "robustness-examples": "One image under each change.",
    },
    metrics={
        **{
            name: f"accuracy kept ({CHANGED[kind]}), mean over amounts"
            for kind, name in MEASURES.items()
        },
        **{
            f"{name}_difference": f"accuracy kept ({CHANGED[kind]}), first minus second"
            for kind, name in MEASURES.items()
        },
        GUESSING: "accuracy that always naming the commonest class would keep",
    },
    units={
        GUESSING: "ratio",
        **dict.fromkeys(MEASURES.values(), "ratio"),
        **{f"{name}_difference": "difference of two ratios" for name in MEASURES.values()},
    },
)

IMAGES = 64
SHARES = (0.25, 0.5, 0.75)
ALONG_A_SIDE = (2, 4, 8)
SMALL, SMALL_GRID, GRID = 64, 4, 14  # pixels; patches along a side where no ViT gives its own


@dataclass(frozen=True)
class _Change:
    """A change of all images: what is done, and how much of it."""

    kind: str
    amount: float


def start(study: Study) -> Accumulator:
    """Begin; the passes over changed images are made at the end.

    Raises:
        NotApplicable: no labels, or no network that knows their classes.
    """
    rated, notes = rated_networks(study, "not rated")
    return _Robustness(study, with_seeds(study, rated), notes)


class _Robustness(Accumulator):
    """Keeps the answers on the unchanged images; makes a pass for each change."""

    gathers = ("answers",)

    def __init__(
        self, study: Study, rated: Mapping[int, ComparedNetwork], notes: Sequence[str]
    ) -> None:
        self.study, self.rated, self.notes = study, rated, list(notes)
        self.answers: dict[int, list[NDArray[np.int64]]] = {s: [] for s in rated}
        self.rows = choose_images(len(study.images), IMAGES, study.settings.seed)

    def end_batch(self, batch: Batch) -> None:
        for s in self.rated:
            self.answers[s].append(predictions(batch.logits[s]))

    def result(self) -> Result:
        labels = np.asarray(self.study.labels)[self.rows]
        clean = {s: np.concatenate(of)[self.rows] == labels for s, of in self.answers.items()}
        orders, grid = self._orders()
        changes = list(self._changes(orders))
        names = [network.name for network in self.rated.values()]
        values = np.full((len(names), len(changes), len(self.rows)), np.nan)
        pictures = []
        for j, change in enumerate(changes):
            self.on_progress(j, len(changes), "changes of the images")
            images = self._corrupted(change)
            for k, (s, network) in enumerate(self.rated.items()):
                pixels = self._changed(network, images, change, orders.get(change.kind), grid)
                found = logits_on(network, pixels, self.study.settings.batch_size)
                values[k, j] = ratio_values(predictions(found) == labels, clean[s])
                if k == 0:
                    pictures.append(_picture(network, pixels[0]))
        chance = commonest_share(np.asarray(self.study.labels))
        ends = mean_interval(np.moveaxis(values, -1, 0), RANGES["ratio"])
        dims = ("network", "change")
        data = xr.Dataset(
            {
                **estimate("kept", dims, ends, kind="Student's t over images"),
                "clean_accuracy": variable("network", [r.mean() for r in clean.values()]),
                "chance": variable((), chance),
                "example": variable(
                    ("change", "pixel_row", "pixel_column", "channel"), np.stack(pictures)
                ),
            },
            {
                "network": column(names),
                "kind": ("change", column([change.kind for change in changes])),
                "amount": ("change", np.array([change.amount for change in changes])),
            },
        )
        metrics = list(_metrics(list(self.rated.values()), changes, values))
        for name, right in zip(names, clean.values(), strict=True):
            if right.any():
                metrics.append(Metric(GUESSING, chance / float(right.mean()), name))
            else:
                self.notes.append(f"{name}: no accuracy to keep: it is wrong on all images")
        return Result(data, metrics=tuple(metrics), notes=tuple(self.notes), images=len(self.rows))

    def _orders(self) -> tuple[dict[str, torch.Tensor], tuple[int, int]]:
        """Return in which order the patches of each image go, by kind of change, and their grid."""
        seed, images = self.study.settings.seed, self.study.images[self.rows]
        attending = attending_networks(self.study)
        found = [s for s in attending if self.study.networks[s].compared]
        if not found:
            self.notes.append("no patches are dropped by attention, since no model attends")
            side = GRID if min(images.shape[1:3]) >= SMALL else SMALL_GRID
            return {RANDOM: random_order(len(images), side * side, seed=seed)}, (side, side)
        network = self.study.networks[found[0]]
        spec, module = network.model.spec, network.model.module
        attention = rollout_maps(network, attending[found[0]], model_input(images, spec, module))
        self.notes.append(f"patches and their order by attention are those of {network.name}")
        flat = attention[:, -1].flatten(1).cpu()
        orders = {
            RANDOM: random_order(len(images), flat.shape[1], seed=seed),
            MOST: flat.argsort(dim=1, descending=True, stable=True),
            LEAST: flat.argsort(dim=1, stable=True),
        }
        return orders, (attention.shape[-2], attention.shape[-1])

    def _changes(self, orders: Mapping[str, torch.Tensor]) -> Iterator[_Change]:
        for kind in orders:
            yield from (_Change(kind, share) for share in SHARES)
        sides = [network.model.spec.image_size for network in self.rated.values()]
        for tiles in ALONG_A_SIDE:
            if all(side % tiles == 0 and side > tiles for side in sides):
                yield _Change(TILES, tiles)
        for kind in CONSTANTS:
            yield from (_Change(kind, strength) for strength in STRENGTHS)

    def _corrupted(self, change: _Change) -> NDArray[np.uint8]:
        """Return the images, corrupted if that is the change; all networks are shown the same."""
        images = np.asarray(self.study.images[self.rows])
        if change.kind not in CONSTANTS:
            return images
        return corrupt(images, change.kind, int(change.amount), seed=self.study.settings.seed)

    def _changed(
        self,
        network: ComparedNetwork,
        images: NDArray[np.uint8],
        change: _Change,
        order: torch.Tensor | None,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """Return images as a network takes them, with patches dropped or tiles shuffled."""
        spec, module, seed = network.model.spec, network.model.module, self.study.settings.seed
        pixels = model_input(images, spec, module)
        if change.kind == TILES:
            return shuffle_tiles(pixels, int(change.amount), seed=seed)
        if order is not None:
            black = -torch.tensor(spec.mean) / torch.tensor(spec.std)
            return drop_patches(pixels, order, change.amount, grid=grid, fill=black)
        return pixels


def _picture(network: ComparedNetwork, pixels: torch.Tensor) -> NDArray[np.uint8]:
    """Return a network's input (3, height, width) as a picture (height, width, 3)."""
    spec = network.model.spec
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    values = (pixels.float().cpu() * std + mean).clamp(0, 1) * 255
    return values.round().to(torch.uint8).permute(1, 2, 0).numpy()


def _metrics(
    networks: Sequence[ComparedNetwork], changes: Sequence[_Change], values: NDArray[np.float64]
) -> Iterator[Metric]:
    """Yield what each network keeps under each kind of change, and how two models compare."""
    for kind, measure in MEASURES.items():
        chosen = [j for j, change in enumerate(changes) if change.kind == kind]
        if not chosen:
            continue
        means = values[:, chosen].mean(axis=1)
        for network, of_images in zip(networks, means, strict=True):
            yield Metric.of(measure, mean_interval(of_images), network.name)
        for (a, of_a), (b, of_b) in combinations(zip(networks, means, strict=True), 2):
            if a.of == b.of:
                continue
            gap = mean_interval(of_a - of_b)
            yield Metric.of(f"{measure}_difference", gap, a.name, b.name, pair="signed")


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw what all networks keep under each change, and one image under each."""
    names = [name for name in compared if name in result.networks]
    return [
        Drawing("robustness-curves", draw_curves(result, names)),
        Drawing("robustness-examples", draw_examples(result)),
    ]
