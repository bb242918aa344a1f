"""Grad-CAM: what in an image decides for a class, and does removing it change the answer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.class_maps import class_maps, probabilities_of, rollout_maps
from zoo.analyses.grad_cam_figures import EMPTY, HALF, KINDS, draw_curves, draw_maps
from zoo.measures.deletion import STEPS, area_under, deletion_curves, upsample
from zoo.measures.intervals import mean_interval
from zoo.models.preprocess import model_input
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.answers import without_logits
from zoo.study.attention_layers import attending_networks, name_images
from zoo.study.axes import Scale, column, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import SIGNED, Metric, Part, Result
from zoo.study.spatial_layout import (
    as_seen,
    choose_images,
    evenly,
    last_block,
    last_mapped_block,
)

ABOUT = About(
    name="grad-cam",
    title="What decides (Grad-CAM)",
    shows=(
        "Which parts of an image speak for the class that a model predicts, and for the true class "
        "where that differs; and how fast the model loses its answer when the marked pixels are "
        "removed, beside attention rollout and beside random maps (at most 32 images)."
    ),
    reading=(
        "The visible parts speak for the class; faded ones do not. If a map explains the answer, "
        "removing its highest pixels lowers the probability at once: the lower the curve, the "
        "better. The band is the 95 % interval of a map's difference from the random one, paired "
        "over images: where the random curve runs inside it, these images show no difference."
    ),
    needs="gradients",
    source="Selvaraju et al. 2017; deletion: Petsiuk et al. 2018; rollout: Zhu et al. 2023",
    settings=("show", "shown_images", "seed"),
    captions={
        "grad-cam-maps-{}": "What speaks for a class, over the images: {}.",
        "grad-cam-deletion": "Probability of the predicted class as the marked pixels are removed.",
    },
    metrics={
        "deletion_area_predicted": "area under the deletion curve, Grad-CAM (lower is better)",
        "deletion_area_rollout": "area under the deletion curve, attention rollout",
        "deletion_area_random": "area under the deletion curve, random order",
        "area_minus_random_predicted": "area under the curve, Grad-CAM minus random order",
        "area_minus_random_rollout": "area under the curve, attention rollout minus random order",
    },
    units=dict.fromkeys(("area_minus_random_predicted", "area_minus_random_rollout"), SIGNED),
)

MAX_IMAGES = 32
ROLLOUTS = 3  # layers whose rollout stands beside Grad-CAM
TESTED = {"predicted": "Grad-CAM", "rollout": "attention rollout"}
PREDICTED, TRUE, ROLLOUT, RANDOM = "predicted", "true", "rollout", "random"
SCALES = {kind: Scale(title, 0, empty=EMPTY, outlined=HALF) for kind, title in KINDS.items()}


def true_classes(study: Study, network: ComparedNetwork, outputs: int) -> NDArray[np.int64] | None:
    """Return each image's class among a model's outputs, −1 where it has none.

    Classes are matched by name where the model and the study name theirs, else by index. None
    where there are no labels.
    """
    if study.labels is None:
        return None
    labels = np.asarray(study.labels)
    theirs = {name: i for i, name in enumerate(network.model.spec.class_names)}
    if theirs and study.class_names:
        match = np.array([theirs.get(name, -1) for name in study.class_names], dtype=np.int64)
    else:
        match = np.arange(outputs)
    known = (labels >= 0) & (labels < len(match))
    return np.where(known, match[np.where(known, labels, 0)], -1)


@dataclass(frozen=True)
class _Explained:
    """A model's maps (n, height, width) by kind, its classes and their names, and its curves."""

    maps: dict[str, torch.Tensor]
    classes: dict[str, torch.Tensor]
    curves: dict[str, torch.Tensor]
    place: str


def start(study: Study) -> Accumulator:
    """Begin; the passes are made at the end, since they need gradients.

    Raises:
        NotApplicable: no model has a block whose output lies over the image.
    """
    mapped, notes = [], []
    for s, network in enumerate(study.compared):
        if reason := without_logits(network):
            notes.append(f"{network.name}: no map, since {reason}")
            continue
        block = last_mapped_block(network)
        if block is None:
            notes.append(f"{network.name}: no map, since no block's output lies over the image")
            continue
        layer, layout = block
        if layout.height * layout.width == 1:
            notes.append(f"{network.name}: no map, since its last block has one place only")
            continue
        mapped.append(s)
        if layer != last_block(network):
            notes.append(
                f"{network.name}: maps are taken at {layer} ({layout.height} × {layout.width} "
                "places), since the last block has fewer than 4 × 4"
            )
    if not mapped:
        raise NotApplicable("; ".join(notes))
    return _GradCam(study, mapped, notes)


class _GradCam(Accumulator):
    """Makes its own passes over the shown images and, at most 32, those that maps are tested on.

    These are drawn at random whatever is shown: images that tell networks apart are no sample.
    """

    def __init__(self, study: Study, mapped: Sequence[int], notes: list[str]) -> None:
        self.study, self.mapped, self.notes = study, mapped, notes
        self.shown = study.shown[:MAX_IMAGES]
        self.tested = choose_images(len(study.images), MAX_IMAGES, study.settings.seed)
        self.images = np.array([*self.shown, *self.tested])
        self.attending = attending_networks(study)

    def result(self) -> Result:
        parts: list[Part] = []
        metrics: list[Metric] = []
        for s in self.mapped:
            network = self.study.networks[s]
            try:
                found = self._explain(s)
            except ValueError as error:
                self.notes.append(f"{network.name}: no map: {error}")
                continue
            parts.append(Part(network.name, self._maps(s, found)))
            metrics += self._metrics(network.name, found)
        if not parts:
            raise NotApplicable("; ".join(self.notes))
        notes = tuple(self.notes)
        return Result(
            parts=tuple(parts), metrics=tuple(metrics), notes=notes, images=len(self.tested)
        )

    def _explain(self, s: int) -> _Explained:
        network, seed = self.study.networks[s], self.study.settings.seed
        images, model = self.study.images[self.images], network.model
        pixels = model_input(images, model.spec, model.module)
        probabilities = probabilities_of(network, pixels)
        classes = {PREDICTED: probabilities.argmax(dim=1)}
        if (true := true_classes(self.study, network, probabilities.shape[1])) is not None:
            classes[TRUE] = torch.from_numpy(true[self.images]).to(pixels.device)
        maps: dict[str, torch.Tensor] = {}
        maps[PREDICTED], place = class_maps(network, pixels, classes[PREDICTED])
        shown = len(self.shown)
        if TRUE in classes:
            differ = (classes[TRUE] >= 0) & (classes[TRUE] != classes[PREDICTED])
            differ[shown:] = False
            if bool(differ.any()):
                maps[TRUE] = torch.full_like(maps[PREDICTED], torch.nan)
                maps[TRUE][differ], _ = class_maps(network, pixels[differ], classes[TRUE][differ])
        if s in self.attending:
            maps[ROLLOUT] = rollout_maps(
                network, self.attending[s], pixels, evenly(self.attending[s].layers, ROLLOUTS)
            )
        tested = {PREDICTED: maps[PREDICTED][shown:]}
        if ROLLOUT in maps:
            tested[ROLLOUT] = maps[ROLLOUT][shown:, -1]
        generator = torch.Generator().manual_seed(seed)
        tested[RANDOM] = torch.rand(tested[PREDICTED].shape, generator=generator).to(pixels.device)
        size = (pixels.shape[2], pixels.shape[3])
        curves = deletion_curves(
            lambda x: probabilities_of(network, x),
            pixels[shown:],
            {kind: upsample(of, *size) for kind, of in tested.items()},
            classes[PREDICTED][shown:],
            seed=seed,
        )
        return _Explained(maps, classes, curves, place)

    def _maps(self, s: int, found: _Explained) -> xr.Dataset:
        """Return a model's maps over the shown images, and its curves over all tested ones."""
        network = self.study.networks[s]
        shown = len(self.shown)
        seen = as_seen(self.study.images[self.images[:shown]], network)
        variables: dict[str, Any] = {
            "images": variable(("image", "pixel_row", "pixel_column", "colour"), seen)
        }
        for kind, maps in found.maps.items():
            values = maps[:shown].cpu().numpy()
            dims = ("image", *(("layer",) if kind == ROLLOUT else ()), "row", "column")
            variables[kind] = variable(dims, values, scale=SCALES[kind])
        kinds = list(found.curves)
        curves = np.stack([found.curves[kind].cpu().numpy() for kind in kinds])
        along = ("order", "tested_image", "step")
        variables["deletion"] = variable(along, curves, unit="probability")
        coordinates: dict[str, Any] = {
            "image": column(name_images(self.study)[:MAX_IMAGES]),
            "order": column(kinds),
            "tested_image": self.tested,
            "removed": ("step", np.linspace(0, 1, STEPS + 1)),
        }
        if ROLLOUT in found.maps:
            layers = self.attending[s].layers
            chosen = evenly(layers, ROLLOUTS)
            coordinates["name"] = ("layer", column(chosen))
            coordinates["rollout_layer"] = ("layer", [layers.index(name) + 1 for name in chosen])
        known = dict(enumerate(network.model.spec.class_names or self.study.class_names))
        for kind, classes in found.classes.items():
            names = [
                known.get(int(c), f"class {c}") if c >= 0 else "no such class"
                for c in classes[:shown].tolist()
            ]
            coordinates[f"{kind}_class"] = ("image", column(names))
        return xr.Dataset(variables, coordinates)

    def _metrics(self, name: str, found: _Explained) -> list[Metric]:
        if found.place == "input":
            self.notes.append(
                f"{name}: maps are taken at the input of its last block, since the classifier "
                "reads the class token alone of that block's output"
            )
        if empty := int(
            (found.maps[PREDICTED][len(self.shown) :].flatten(1).amax(dim=1) == 0).sum()
        ):
            self.notes.append(
                f"{name}: on {empty} of {len(self.tested)} images no place speaks for the "
                "predicted class: the map is 0 everywhere and pixels are removed at random"
            )
        if TRUE in found.classes and bool((found.classes[TRUE] < 0).any()):
            self.notes.append(
                f"{name}: some images' classes are not among its own; they have no map"
            )
        metrics = []
        for kind, curve in found.curves.items():
            areas = area_under(curve).cpu().numpy()
            if not np.isfinite(areas.mean()):
                self.notes.append(
                    f"{name}: {kind}: deletion is undefined, probabilities are not finite"
                )
                continue
            metrics.append(Metric(f"deletion_area_{kind}", float(areas.mean()), name))
            if kind == RANDOM:
                continue
            gain, low, high = mean_interval(areas - area_under(found.curves[RANDOM]).cpu().numpy())
            metrics.append(Metric.of(f"area_minus_random_{kind}", (gain, low, high), name))
            if high >= 0:
                self.notes.append(
                    f"{name}: {TESTED[kind]}: cannot be distinguished from a random order "
                    f"({gain:+.3f} in area, {low:+.3f} to {high:+.3f}, {len(areas)} images)"
                )
        return metrics


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw each model's maps over the shown images, and the deletion curves."""
    names = [name for name in compared if name in result.networks]
    maps = [Drawing("grad-cam-maps-{}", draw_maps(result, name), (name,)) for name in names]
    return [*maps, Drawing("grad-cam-deletion", draw_curves(result, names))]
