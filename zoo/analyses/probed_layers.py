"""What linear probes look at: a model's layers and places, and the pixels as their baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from zoo.measures.replicates import NO_REPLICATES, GroupedMean, Replicates
from zoo.measures.ridge import LayerProbe
from zoo.study.axes import column, layer_axis, select, variable
from zoo.study.networks import ComparedNetwork, has_class_token, reads_class_token
from zoo.study.replicates import replicated
from zoo.study.results import Metric
from zoo.study.spatial_layout import SMALLEST_GRID, compared_layers, last_block, layout_of

MAX_TOKENS = 64
TOKEN_NUMBERS = 1 << 26  # features kept of single tokens, a model: 256 MB
PIXEL_SIDE = 32  # larger images are averaged to it: 3,072 numbers an image
CLS, MEAN = "class token", "mean over places"
PROBED = ("accuracy", "few_shot", "penalty")
Key = tuple[str, str, str]  # network, layer, pooling


@dataclass(frozen=True)
class Probed:
    """What is probed of a model: layers, poolings, and places (rows, columns) of the last block."""

    name: str
    layers: tuple[str, ...]
    poolings: tuple[str, ...]
    last: str | None
    rows: range
    columns: range


def plan(network: ComparedNetwork, images: int) -> tuple[Probed, list[str]]:
    """Decide what is probed of a model, and say what is left out."""
    last = last_block(network)
    chosen = [n for n in compared_layers(network) if network.trace[n].role != "head"]
    names = [x.name for x in network.trace if x.name in chosen or x.name == last]
    # A layer of several dimensions that does not lie over the image has no tokens to pool.
    fits = [n for n in names if layout_of(network, n) or len(network.trace[n].shape) == 1]
    notes = []
    if len(fits) < len(names):
        notes.append(
            f"{network.name}: layers not probed, since their outputs do not lie over the "
            f"image: {', '.join(network.label(n) for n in names if n not in fits)}"
        )
    poolings = (CLS, MEAN) if has_class_token(network) else (MEAN,)
    rows, columns = range(0), range(0)
    if last and (layout := layout_of(network, last)):
        shape = network.trace[last].shape
        width = shape[0] if layout.kind == "channels_first" else shape[-1]
        most = max(1, min(MAX_TOKENS, TOKEN_NUMBERS // (images * width)))
        rows, columns = regular_places(layout.height, layout.width, most)
        if len(rows) * len(columns) < layout.height * layout.width:
            notes.append(
                f"{network.name}: {len(rows) * len(columns)} of {layout.height * layout.width} "
                "places of the last block are probed, evenly spread"
            )
        if min(len(rows), len(columns)) < SMALLEST_GRID:
            notes.append(
                f"{network.name}: no map of single tokens, since only {len(rows)} × {len(columns)} "
                "places of the last block are probed"
            )
    return Probed(network.name, tuple(fits), poolings, last, rows, columns), notes


def regular_places(height: int, width: int, most: int) -> tuple[range, range]:
    """Return rows and columns of at most `most` places that lie evenly over a grid.

    >>> regular_places(14, 14, 64)
    (range(0, 14, 2), range(0, 14, 2))
    """
    step = 1
    while math.ceil(height / step) * math.ceil(width / step) > most:
        step += 1
    top, left = (min((step - 1) // 2, side - 1) for side in (height, width))
    return range(top, height, step), range(left, width, step)


def probe_dataset(
    plans: Sequence[tuple[ComparedNetwork, Probed]], probes: Mapping[Key, LayerProbe]
) -> tuple[xr.Dataset, list[str]]:
    """Lay probes of any number of networks out on one axis of layers; say where there are none.

    Returns:
        `accuracy`, `few_shot` and `penalty` (layer, pooling), NaN without a probe; notes on the
        compared networks.
    """
    rows = [(network, layer) for network, probed in plans for layer in probed.layers]
    poolings = [p for p in (CLS, MEAN) if any(p in probed.poolings for _, probed in plans)]
    values = np.full((len(PROBED), len(rows), len(poolings)), np.nan)
    own = {network.name: probed.poolings for network, probed in plans}
    notes = []
    for i, (network, layer) in enumerate(rows):
        for j, pooling in enumerate(poolings):
            if pooling not in own[network.name]:
                continue
            probe = probes.get((network.name, layer, pooling))
            if probe is None or probe.all is None or probe.few_shot is None:
                why = probe.problem if probe else "it has no tokens"
                if network.compared:
                    of = f"{network.name}: {network.label(layer)}, {pooling}"
                    notes.append(f"{of}: no probe, since {why}")
                continue
            values[:, i, j] = probe.all.accuracy, probe.few_shot, probe.all.penalty
    dims = ("layer", "pooling")
    variables = {kind: variable(dims, v) for kind, v in zip(PROBED, values, strict=True)}
    return xr.Dataset(variables, layer_axis(rows) | {"pooling": column(poolings)}), notes


def probe_metrics(
    accuracy: xr.DataArray, network: str, last: str | None, prefix: str = ""
) -> Iterator[Metric]:
    """Yield what a network's probes come to: the best, at half depth, and of its last block.

    Args:
        accuracy: (layer, pooling) of all networks.
        network: which one.
        last: its last block, where that is probed.
        prefix: of the measures' names.
    """
    own = select(accuracy, network)
    mean = own.sel(pooling=MEAN)
    depth = own["depth"].values
    found = {}
    if np.isfinite(depth).any():
        found["middle_accuracy"] = float(mean.values[int(np.nanargmin(np.abs(depth - 0.5)))])
    if np.isfinite(own.values).any():
        found["best_layer_accuracy"] = float(np.nanmax(own.values))
    if last:
        at = own["name"].values.tolist().index(last)
        found["last_block_mean_accuracy"] = float(mean.values[at])
        if CLS in own["pooling"].values:
            found["cls_last_accuracy"] = float(own.sel(pooling=CLS).values[at])
    for what, value in found.items():
        if math.isfinite(value):
            yield Metric(prefix + what, value, network)


def pooling_read(network: ComparedNetwork) -> str:
    """Return the pooling of the last block that a network's classifier reads."""
    return CLS if reads_class_token(network) else MEAN


def share_of_read(
    single: NDArray[np.float64], read: NDArray[np.bool_], chance: NDArray[np.bool_]
) -> Replicates:
    """Return how much of what a classifier reads a single token knows: accuracies above chance.

    Args:
        single: (images,) share of the single tokens' probes that are right on each test image.
        read: (images,) whether the probe of what the classifier reads is right.
        chance: (images,) whether the most common class is right.

    Returns:
        (single − chance) / (read − chance), of the means over images, whole and without each
        group of test images; the probes are held.
    """
    means = GroupedMean()
    means.add(np.stack([single, read, chance], axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return means.result().map(lambda mean: np.divide(mean[0] - mean[2], mean[1] - mean[2]))


def shares_by_layer(
    data: xr.Dataset, shares: Mapping[str, Replicates]
) -> dict[str, tuple[Any, ...]]:
    """Return what `share_of_read` found of each network, at its last probed layer.

    Returns:
        `single_token_share` (layer,), NaN elsewhere, and what it is without each group of images.
    """
    networks = data["network"].values.tolist()
    known = next(iter(shares.values()), NO_REPLICATES)
    whole = np.full(len(networks), np.nan)
    without = np.full((len(known.weight), len(networks)), np.nan)
    for name, share in shares.items():
        last = len(networks) - 1 - networks[::-1].index(name)
        whole[last], without[:, last] = share.whole, share.without
    kept = Replicates(whole, without, known.weight, known.freedom)
    return replicated("single_token_share", "layer", kept)


def pixel_baseline(probe: LayerProbe, size: tuple[int, int]) -> tuple[list[Metric], list[str]]:
    """Return what a probe of `pixel_features` reaches, and notes.

    Args:
        probe: of the images themselves.
        size: their height and width.

    Returns:
        Accuracy of the probe on all images and of the few-shot one, none without a probe; and
        what was done to the images, or why there is none.
    """
    notes = []
    if max(size) > PIXEL_SIDE:
        height, width = (min(side, PIXEL_SIDE) for side in size)
        notes.append(
            f"raw pixels: images of {size[0]} × {size[1]} are averaged to {height} × {width}"
        )
    if probe.all is None or probe.few_shot is None:
        return [], [*notes, f"raw pixels: no probe, since {probe.problem}"]
    found = {"pixels_accuracy": probe.all.accuracy, "pixels_few_shot_accuracy": probe.few_shot}
    return [Metric(name, float(value)) for name, value in found.items()], notes


def pixel_features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels of images (n, height, width, 3) as features (n, numbers), 0 to 1.

    A side of more than 32 pixels is averaged to 32, so that few numbers an image are kept.
    """
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    height, width = (min(side, PIXEL_SIDE) for side in pixels.shape[2:])
    return adaptive_avg_pool2d(pixels, (height, width)).flatten(1).numpy()
