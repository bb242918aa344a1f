"""Patches in one basis: what a network tells apart within images, as colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.capture.hook_points import HookPoint
from zoo.figures.image_grid import image_grid
from zoo.measures.patch_components import component_colours, patch_components
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.attention_layers import name_images
from zoo.study.axes import column, variable
from zoo.study.networks import Study
from zoo.study.results import Metric, Part, Result
from zoo.study.spatial_layout import (
    Layout,
    as_seen,
    last_block,
    last_mapped_block,
    places_of,
)

ABOUT = About(
    name="patch-components",
    title="Patches as colours",
    shows=(
        "The features of every patch of the shown images, in the last block with at least 4 × 4 "
        "places: their first three principal components over all shown images as red, green and "
        "blue."
    ),
    reading=(
        "Patches of the same colour have similar features, in one image and across images. Colours "
        "of two networks do not correspond: compare what is distinguished, not the hues."
    ),
    needs="activations",
    source="Amir et al. 2022; Oquab et al. 2023 (DINOv2), Fig. 1",
    settings=("show", "shown_images"),
    captions={"patch-components": "Patch features as colours, one basis per network."},
    metrics={"explained": "share of the patches' variance in three components"},
)


def start(study: Study) -> Accumulator:
    """Begin.

    Raises:
        NotApplicable: no network has a block whose output lies over the image.
    """
    found: dict[int, tuple[str, Layout]] = {}
    notes = []
    for s, network in enumerate(study.compared):
        block = last_mapped_block(network)
        if block is None or block[1].height * block[1].width == 1:
            notes.append(f"{network.name}: no block's output lies over the image in several places")
            continue
        found[s] = layer, layout = block
        if layer != last_block(network):
            notes.append(
                f"{network.name}: patches are those of {layer} ({layout.height} × {layout.width}), "
                "since the last block has fewer than 4 × 4 places"
            )
    if not found:
        raise NotApplicable("; ".join(notes))
    return _PatchComponents(study, found, notes)


class _PatchComponents(Accumulator):
    """Keeps the features of the shown images' patches alone."""

    gathers = ("kept",)

    def __init__(
        self, study: Study, layers: dict[int, tuple[str, Layout]], notes: Sequence[str]
    ) -> None:
        self.study, self.layers, self.notes = study, layers, list(notes)
        self.kept: dict[int, dict[int, NDArray[np.float32]]] = {s: {} for s in layers}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [HookPoint(self.layers[index][0])] if index in self.layers else []

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        rows = self.rows_of(np.array(self.study.shown), len(value))
        # A copy: a later block may work in place on it.
        places = places_of(value, self.layers[index][1])[rows].float().cpu().numpy()
        self.kept[index] |= dict(zip((rows + self.start).tolist(), places, strict=True))

    def result(self) -> Result:
        parts, metrics = [], []
        for s, (layer, layout) in self.layers.items():
            network = self.study.compared[s]
            places = np.stack([self.kept[s][image] for image in self.study.shown])
            try:
                found = patch_components(places)
            except ValueError as error:
                self.notes.append(f"{network.name}: no colours: {layer}: {error}")
                continue
            grid = (layout.height, layout.width, 3)
            colours = component_colours(found.scores).reshape(len(places), *grid)
            scores = found.scores.reshape(colours.shape)
            dims, pixel = ("image", "row", "column"), ("image", "pixel_row", "pixel_column")
            data = xr.Dataset(
                {
                    "colour": variable((*dims, "colour_channel"), colours),
                    "score": variable((*dims, "component"), scores),
                    "explained": variable("component", found.explained),
                    "images": variable(
                        (*pixel, "channel"),
                        as_seen(self.study.images[list(self.study.shown)], network),
                    ),
                },
                {"image": column(name_images(self.study))},
                {"layer_name": layer},
            )
            parts.append(Part(network.name, data))
            metrics.append(Metric("explained", float(found.explained.sum()), network.name))
        if not parts:
            raise NotApplicable("; ".join(self.notes))
        return Result(parts=tuple(parts), metrics=tuple(metrics), notes=tuple(self.notes))


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw the shown images and every network's colours below them, in the same columns."""
    names = [name for name in compared if name in result.networks]
    parts = [result.part(name) for name in names]
    pictures = [list(parts[0]["images"].values), *(list(part["colour"].values) for part in parts)]
    shares = [f"{100 * float(part['explained'].sum()):.0f} %" for part in parts]
    figure = image_grid(
        pictures,
        row_labels=["image", *names],
        # On two lines, class and number fit above a cell.
        column_labels=[str(name).replace(" (#", "\n(#") for name in parts[0]["image"].values],
        foot="variance in the three colours: "
        + ", ".join(f"{name} {share}" for name, share in zip(names, shares, strict=True)),
    ).figure
    return [Drawing("patch-components", figure)]
