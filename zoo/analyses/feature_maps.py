"""Feature maps: what a convolutional network's blocks see of an image (Zhu et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About
from zoo.capture.hook_points import HookPoint
from zoo.figures.image_grid import image_grid
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.attention_layers import name_images
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Array, Result, Scale
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
    settings=("shown_images",),
    captions={
        "feature-maps-{}": "The mean of all channels of {}, block by block.",
        "feature-maps-{}-strongest": "The strongest channels of {} at the end of each stage.",
    },
)

STRONGEST = 4
MAX_COLUMNS = 19  # narrower columns than these are not legible on a page


def channel_mean(activation: torch.Tensor) -> torch.Tensor:
    """Return the mean map (n, height, width) of an activation (n, channels, height, width)."""
    return activation.mean(dim=1, dtype=torch.float32)


def strongest_channels(activation: NDArray, count: int = STRONGEST) -> NDArray[np.int64]:
    """Return the channels with the highest mean over images and places, the highest first.

    Args:
        activation: (n, channels, height, width).
        count: how many to return, if there are so many.
    """
    means = np.asarray(activation, dtype=np.float64).mean(axis=(0, 2, 3))
    return np.argsort(-means, kind="stable")[:count]


def start(study: Study) -> Accumulator:
    """Begin to collect the maps of the shown images.

    Raises:
        NotApplicable: no model is a convolutional network.
    """
    layers = {}
    for s, subject in enumerate(study.subjects):
        if subject.role == "model" and (found := map_layers(subject)):
            layers[s] = found
    if not layers:
        raise NotApplicable("no model has feature maps: they need a convolutional network")
    return _Maps(study, layers)


def map_layers(subject: ComparedNetwork) -> tuple[str, ...]:
    """Return the stem and blocks of a CNN whose outputs are (n, channels, height, width)."""
    if subject.family != "cnn":
        return ()
    blocks = subject.trace.of_role("block")
    names = [x.name for x in subject.trace if not blocks or x.role in ("stem", "block")]
    layouts = {name: layout_of(subject, name) for name in names}
    return tuple(n for n, layout in layouts.items() if layout and layout.kind == "channels_first")


def stage_ends(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the index of the last layer of each stage: layers of one resolution in a row.

    >>> stage_ends([(64, 32, 32), (64, 32, 32), (128, 16, 16)])
    (1, 2)
    """
    sides = [shape[1:] for shape in shapes]
    return tuple(i for i, side in enumerate(sides) if i + 1 == len(sides) or sides[i + 1] != side)


class _Maps(Accumulator):
    """Keeps maps of the shown images alone, and two counts a model."""

    def __init__(self, study: Study, layers: dict[int, tuple[str, ...]]) -> None:
        self.study = study
        self.layers = layers
        self.ends = {
            s: [names[i] for i in stage_ends([study.subjects[s].trace[n].shape for n in names])]
            for s, names in layers.items()
        }
        self.seen = 0
        self.means: dict[tuple[int, str], dict[int, NDArray]] = {}
        self.channels: dict[tuple[int, str], dict[int, NDArray]] = {}
        self.zeros: dict[int, float] = dict.fromkeys(layers, 0.0)
        self.values: dict[int, int] = dict.fromkeys(layers, 0)

    def hook_points(self, subject: int) -> Iterable[HookPoint]:
        return [HookPoint(name) for name in self.layers.get(subject, ())]

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
        key = (subject, tap.layer)
        rows = {i: i - self.seen for i in self.study.shown if 0 <= i - self.seen < len(value)}
        if rows:
            shown = value[list(rows.values())]
            maps = channel_mean(shown).cpu().numpy()
            self.means.setdefault(key, {}).update(zip(rows, maps, strict=True))
            if tap.layer in self.ends[subject]:
                full = shown.float().cpu().numpy()
                self.channels.setdefault(key, {}).update(zip(rows, full, strict=True))
        if tap.layer == self.layers[subject][-1]:
            # A value that is not a number is neither zero nor not: the share is then not known.
            self.zeros[subject] += float((value == 0).sum()) if value.isfinite().all() else np.nan
            self.values[subject] += value.numel()

    def end_batch(self, batch: Batch) -> None:
        self.seen = batch.stop

    def result(self) -> Result:
        study = self.study
        arrays: dict[str, Array] = {}
        labels = {"image": name_images(study), "colour": ("red", "green", "blue")}
        metrics: dict[str, float] = {}
        for s in self.layers:
            arrays |= self._arrays(s)
            labels |= self._labels(s, arrays)
            metrics |= self._metrics(s)
        notes = tuple(
            f"{m.name}: no feature maps, since it is no convolutional network"
            for s, m in enumerate(study.subjects)
            if m.role == "model" and s not in self.layers
        )
        names = tuple(study.subjects[s].name for s in self.layers)
        for name, layers in zip(names, self.layers.values(), strict=True):
            broken = [x for x in layers if not np.isfinite(arrays[f"mean/{name}/{x}"].values).all()]
            notes += tuple(f"{name}: {layer} is not finite" for layer in broken)
        scales = {"mean": Scale("mean of all channels"), "strongest": Scale("strongest channels")}
        return Result(names, arrays, metrics, labels, notes, scales=scales)

    def _arrays(self, s: int) -> dict[str, Array]:
        subject = self.study.subjects[s]
        name, shown = subject.name, self.study.images[list(self.study.shown)]
        pixels = ("image", f"pixel_row[{name}]", f"pixel_column[{name}]", "colour")
        # Maps lie over what the network saw, which may be a part of the image.
        arrays = {f"images/{name}": Array(as_seen(shown, subject), pixels)}
        for layer in self.layers[s]:
            maps = np.stack([self.means[s, layer][i] for i in self.study.shown])
            arrays[f"mean/{name}/{layer}"] = Array(
                maps, ("image", f"row[{name}.{layer}]", f"column[{name}.{layer}]")
            )
        for layer in self.ends[s]:
            full = np.stack([self.channels[s, layer][i] for i in self.study.shown])
            chosen = strongest_channels(full)
            dims = (
                "image",
                f"rank[{name}.{layer}]",
                f"row[{name}.{layer}]",
                f"column[{name}.{layer}]",
            )
            arrays[f"strongest/{name}/{layer}"] = Array(full[:, chosen], dims)
            arrays[f"channel/{name}/{layer}"] = Array(chosen, ("rank",))
        return arrays

    def _labels(self, s: int, arrays: dict[str, Array]) -> dict[str, tuple[str, ...]]:
        name = self.study.subjects[s].name
        channels = {
            f"rank[{name}.{layer}]": tuple(
                f"#{c}" for c in arrays[f"channel/{name}/{layer}"].values
            )
            for layer in self.ends[s]
        }
        return channels | {f"layer[{name}]": self.layers[s], f"stage[{name}]": tuple(self.ends[s])}

    def _metrics(self, s: int) -> dict[str, float]:
        subject = self.study.subjects[s]
        known = {
            f"feature-maps/{subject.name}/sparsity_last": self.zeros[s] / self.values[s],
            f"feature-maps/{subject.name}/resolution_last": (
                subject.trace[self.layers[s][-1]].shape[1]
            ),
        }
        return {name: value for name, value in known.items() if np.isfinite(value)}


def draw(result: Result) -> dict[str, Figure]:
    """Draw each model's mean maps, block by block, and the strongest channels of each stage."""
    figures = {}
    for name in result.models:
        images = list(result.arrays[f"images/{name}"].values)
        layers = evenly(result.labels[f"layer[{name}]"], MAX_COLUMNS)
        means = [result.arrays[f"mean/{name}/{layer}"].values for layer in layers]
        rows = [[image, *(m[i] for m in means)] for i, image in enumerate(images)]
        figures[f"feature-maps-{name}"] = _grid(result, rows, ["input", *layers])
        stages = evenly(result.labels[f"stage[{name}]"], 5)
        titles, columns = ["input"], []
        for stage in stages:
            channels = result.arrays[f"channel/{name}/{stage}"].values
            titles += [f"{stage} #{channel}" for channel in channels]
            columns += list(result.arrays[f"strongest/{name}/{stage}"].values.swapaxes(0, 1))
        rows = [[image, *(c[i] for c in columns)] for i, image in enumerate(images)]
        figures[f"feature-maps-{name}-strongest"] = _grid(result, rows, titles)
    return figures


def _grid(result: Result, rows: list[list[NDArray]], titles: list[str]) -> Figure:
    foot = "each map in its own colours: dark is its lowest value, bright its highest"
    labels = result.labels["image"]
    return image_grid(rows, row_labels=labels, column_labels=titles, foot=foot).figure
