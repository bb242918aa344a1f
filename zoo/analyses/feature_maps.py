"""Feature maps: what a convolutional network's blocks see of an image (Zhu et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.capture.hook_points import HookPoint
from zoo.figures.image_grid import image_grid
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.attention_layers import name_images
from zoo.study.axes import Scale, column, variable
from zoo.study.networks import ComparedNetwork, Study, layer_labels
from zoo.study.results import Part, Result
from zoo.study.spatial_layout import as_seen, evenly, layout_of

ABOUT = About(
    name="feature-maps",
    title="Feature maps",
    shows=(
        "Where a convolutional network's blocks respond to an image: the mean of all channels "
        "after each block (after normalisation, ReLU and the residual sum), and the channels "
        "that respond most at the end of each stage."
    ),
    reading=(
        "Each row is an image, each column a block, from input to output. Every map has its own "
        "colour range, from its lowest value to its highest: compare where a map is bright, not "
        "how bright two maps are. Maps get coarser where the network halves its resolution."
    ),
    needs="activations",
    source="Zhu et al. 2023, feature-map figure",
    settings=("show", "shown_images"),
    captions={
        "feature-maps-{}": "The mean of all channels of {}, block by block.",
        "feature-maps-{}-strongest": "The strongest channels of {} at the end of each stage.",
    },
)

MEAN, STRONG = Scale("mean of all channels"), Scale("strongest channels")

STRONGEST = 3
MOST_STAGES = 5
FOOT = "each map in its own colours: dark is its lowest value, bright its highest"
MAX_COLUMNS = 19  # narrower columns than these are not legible on a page


def strongest_channels(activation: NDArray) -> NDArray[np.int64]:
    """Return the `STRONGEST` channels of (n, channels, height, width), the strongest first.

    They are those with the highest mean over images and places.
    """
    means = np.asarray(activation, dtype=np.float64).mean(axis=(0, 2, 3))
    return np.argsort(-means, kind="stable")[:STRONGEST]


def start(study: Study) -> Accumulator:
    """Begin to collect the maps of the shown images.

    Raises:
        NotApplicable: no model is a convolutional network.
    """
    layers = {}
    for s, network in enumerate(study.networks):
        if network.compared and (found := map_layers(network)):
            layers[s] = found
    if not layers:
        raise NotApplicable("no model has feature maps: they need a convolutional network")
    return _Maps(study, layers)


def map_layers(network: ComparedNetwork) -> tuple[str, ...]:
    """Return the stem and blocks of a CNN whose outputs are (n, channels, height, width)."""
    if network.family != "cnn":
        return ()
    blocks = network.trace.of_role("block")
    names = [x.name for x in network.trace if not blocks or x.role in ("stem", "block")]
    layouts = {name: layout_of(network, name) for name in names}
    return tuple(n for n, layout in layouts.items() if layout and layout.kind == "channels_first")


def stage_ends(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the index of the last layer of each stage: layers of one resolution in a row.

    >>> stage_ends([(64, 32, 32), (64, 32, 32), (128, 16, 16)])
    (1, 2)
    """
    sides = [shape[1:] for shape in shapes]
    return tuple(i for i, side in enumerate(sides) if i + 1 == len(sides) or sides[i + 1] != side)


class _Maps(Accumulator):
    """Keeps maps of the shown images alone."""

    gathers = ("means", "channels")

    def __init__(self, study: Study, layers: dict[int, tuple[str, ...]]) -> None:
        self.study = study
        self.layers = layers
        self.ends = {
            s: [names[i] for i in stage_ends([study.networks[s].trace[n].shape for n in names])]
            for s, names in layers.items()
        }
        self.means: dict[tuple[int, str], dict[int, NDArray]] = {}
        self.channels: dict[tuple[int, str], dict[int, NDArray]] = {}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.layers.get(index, ())]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        key = (index, hook_point.layer)
        rows = {i: i - self.start for i in self.study.shown if 0 <= i - self.start < len(value)}
        if rows:
            shown = value[list(rows.values())]
            maps = shown.mean(dim=1, dtype=torch.float32).cpu().numpy()  # over channels
            self.means.setdefault(key, {}).update(zip(rows, maps, strict=True))
            if hook_point.layer in self.ends[index]:
                full = shown.float().cpu().numpy()
                self.channels.setdefault(key, {}).update(zip(rows, full, strict=True))

    def result(self) -> Result:
        study = self.study
        parts: list[Part] = []
        notes = [
            f"{network.name}: no feature maps, since it is no convolutional network"
            for s, network in enumerate(study.compared)
            if s not in self.layers
        ]
        for s, layers in self.layers.items():
            network = study.networks[s]
            parts.append(self._pictures(s))
            for layer in layers:
                data = self._maps(s, layer)
                parts.append(Part(network.name, data, layer))
                if not np.isfinite(data["mean"].values).all():
                    notes.append(f"{network.name}: {network.label(layer)} is not finite")
        return Result(parts=tuple(parts), notes=tuple(notes))

    def _pictures(self, s: int) -> Part:
        """Return the shown images as a network saw them, which may be a part of the image."""
        network = self.study.networks[s]
        seen = as_seen(self.study.images[list(self.study.shown)], network)
        pictures = variable(("image", "pixel_row", "pixel_column", "colour"), seen)
        names = {"image": column(name_images(self.study))}
        return Part(network.name, xr.Dataset({"images": pictures}, names))

    def _maps(self, s: int, layer: str) -> xr.Dataset:
        """Return the mean map of a layer, and its strongest channels where it ends a stage."""
        shown = self.study.shown
        maps = np.stack([self.means[s, layer][i] for i in shown])
        data = xr.Dataset(
            {"mean": variable(("image", "row", "column"), maps, scale=MEAN)},
            attrs={"role": self.study.networks[s].trace[layer].role},
        )
        if layer in self.ends[s]:
            full = np.stack([self.channels[s, layer][i] for i in shown])
            chosen = strongest_channels(full)
            dims = ("image", "channel", "row", "column")
            data["strongest"] = variable(dims, full[:, chosen], scale=STRONG)
            data = data.assign_coords(channel=column([f"#{c}" for c in chosen]))
        return data


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw each model's mean maps, block by block, and the strongest channels of each stage."""
    drawn = []
    for name in (name for name in compared if name in result.networks):
        pictures = result.part(name)["images"]
        images, labels = list(pictures.values), pictures["image"].values.tolist()
        maps = {p.layer: p.data for p in result.parts if p.network == name and p.layer}
        layers = evenly(list(maps), MAX_COLUMNS)
        means = [maps[layer]["mean"].values for layer in layers]
        rows = [[image, *(m[i] for m in means)] for i, image in enumerate(images)]
        titles = layer_labels(layers, [maps[layer].attrs["role"] for layer in layers])
        figure = image_grid(
            rows, row_labels=labels, column_labels=["input", *titles], foot=FOOT
        ).figure
        drawn.append(Drawing("feature-maps-{}", figure, (name,)))
        titles, columns, groups = ["input"], [], [("", 1)]
        for stage in evenly([layer for layer in maps if "strongest" in maps[layer]], MOST_STAGES):
            strongest = maps[stage]["strongest"]
            channels = [str(channel) for channel in strongest["channel"].values]
            titles += channels
            columns += list(strongest.values.swapaxes(0, 1))
            (name_of_stage,) = layer_labels([stage], [maps[stage].attrs["role"]])
            groups.append((name_of_stage, len(channels)))
        rows = [[image, *(c[i] for c in columns)] for i, image in enumerate(images)]
        figure = image_grid(
            rows, row_labels=labels, column_labels=titles, column_groups=groups, foot=FOOT
        ).figure
        drawn.append(Drawing("feature-maps-{}-strongest", figure, (name,)))
    return drawn
