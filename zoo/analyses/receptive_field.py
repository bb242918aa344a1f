"""Effective receptive field: which pixels does the centre of a layer depend on?

Raghu et al. 2021, Figs 6 and C.1-C.4; the measure is that of Luo et al. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from zoo.analyses.about import About, Drawing
from zoo.analyses.receptive_field_figures import SHARES, SUM, draw_maps, draw_radii
from zoo.capture.branches import find_branches
from zoo.capture.hook_points import HookPoint, observe
from zoo.measures.replicates import GroupedMean, Replicates, in_rows
from zoo.models.modes import eval_mode
from zoo.models.preprocess import model_input
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.axes import column, layer_axis, select, variable
from zoo.study.networks import ComparedNetwork, Study, layer_labels
from zoo.study.replicates import replicated
from zoo.study.results import Metric, Part, Result
from zoo.study.spatial_layout import choose_images, layout_of, places_of

ABOUT = About(
    name="receptive-field",
    title="Effective receptive field",
    shows=(
        "How strongly the feature at the centre of each layer depends on each input pixel, and the "
        "radius of the disc that holds 50 % and 90 % of that dependence."
    ),
    reading=(
        "A layer with a small bright spot looks at a neighbourhood, one with an even field "
        "at the whole image; each map is scaled by its own maximum, on a logarithmic scale, "
        "so that a faint background shows. Spread over many pixels, it can hold half of the mass: "
        "the 50 % radius then describes the bright spot, the 90 % radius the background. In the "
        "radius figure, a network whose line climbs widens its view step by step; the "
        "dotted line is a field spread evenly over the image."
    ),
    needs="gradients",
    source="Raghu et al. 2021, Figs 6, C.1-C.4; Luo et al. 2016",
    settings=("seed",),
    captions={
        "receptive-field-{}": "Which pixels the centre of each layer of {} depends on.",
        "receptive-field-radius": "The radius of the disc that holds 50 % and 90 % of what the "
        "centre of each layer depends on.",
    },
    metrics={
        f"radius{percent}_{what}": f"radius of {percent} % of the mass, {what.replace('_', ' ')}"
        for percent in (50, 90)
        for what in ("first_block", "last_block")
    },
    unit="share of half the diagonal",
)

IMAGES = 32
GROUPS = 8  # of images, for intervals: as many maps are kept of each layer
# A pass keeps the activations of all layers for its gradients: few large images at a time.
PIXELS_A_PASS = 8 * 224 * 224
# A gradient this much smaller than the feature is the rounding of a constant one.
ROUNDING = 1e-7

Place = Callable[[torch.Tensor], torch.Tensor]


def mass_radius(weights: NDArray, share: float) -> float:
    """Return the radius in pixels of the disc that holds a share of a field's mass.

    The disc lies around the field's centre of mass, since the image place of a location deep in a
    CNN is known only up to the strides before it.

    Args:
        weights: (height, width), not negative, not all zero.
        share: of the mass, in (0, 1].

    >>> mass_radius(np.ones((1, 5)), 0.6)
    1.0
    """
    mass = np.asarray(weights, dtype=np.float64)
    total = mass.sum()
    if not 0 < share <= 1 or not math.isfinite(total) or total <= 0 or mass.min() < 0:
        raise ValueError(f"expected a share in (0, 1] of a positive mass, got {share} of {total}")
    y, x = np.indices(mass.shape)
    distance = np.hypot(y - (mass * y).sum() / total, x - (mass * x).sum() / total).ravel()
    order = np.argsort(distance, kind="stable")
    inside = np.cumsum(mass.ravel()[order])
    # Rounding of the running sum must not ask for one pixel more than the share.
    reached = int(np.searchsorted(inside, share * inside[-1] * (1 - 1e-12)))
    return float(distance[order[reached]])


def receptive_fields(
    module: nn.Module,
    inputs: torch.Tensor,
    places: Mapping[HookPoint, Place],
    *,
    batch_size: int = IMAGES,
    each: Callable[[HookPoint, NDArray[np.float64]], None] = lambda hook_point, maps: None,
) -> tuple[dict[HookPoint, NDArray[np.float64]], dict[HookPoint, str]]:
    """Return the effective receptive fields of layers of a network.

    The mean over images and input channels of the gradient's absolute value. Averaged over images
    first, influences whose sign differs between images would cancel, so that the field would
    depend on n and miss pixels that matter in every image.

    Args:
        module: the network; it runs in eval mode, and its weights' gradients stay as they are.
        inputs: (n, channels, height, width) float, as the network takes them.
        places: for each hook point, what takes one location's feature (n, channels) out of its
            tensor.
        batch_size: images in a pass, which runs forward once and backward once a hook point.
        each: is told of the map (n, height, width) of each image of a pass.

    Returns:
        Fields (height, width) by hook point, and why there is none for the other hook_points.

    Source: Raghu et al. 2021, Fig. 6.
    """
    sums: dict[HookPoint, NDArray[np.float64]] = {}
    sizes = dict.fromkeys(places, 0.0)
    targets: dict[HookPoint, torch.Tensor] = {}

    def on_value(hook_point: HookPoint, value: torch.Tensor) -> None:
        # Summed at once: a later in-place operation would become part of the feature.
        feature = places[hook_point](value).float()
        sizes[hook_point] += float(feature.detach().abs().sum()) / len(inputs)
        if feature.requires_grad:
            targets[hook_point] = feature.sum()

    with torch.enable_grad(), eval_mode(module), observe(module, places, on_value):
        for batch in inputs.split(batch_size):
            leaf = batch.detach().requires_grad_()
            # A copy: a network may work in place on its input, which a leaf does not allow.
            module(leaf.clone())
            for hook_point, target in targets.items():
                (gradient,) = torch.autograd.grad(
                    target, leaf, retain_graph=True, materialize_grads=True
                )
                gradient = gradient.abs()
                each(hook_point, gradient.mean(dim=1).double().cpu().numpy())
                total = gradient.sum(dim=0, dtype=torch.float64).cpu().numpy()
                sums[hook_point] = sums.get(hook_point, 0.0) + total
            targets.clear()
    fields = {at: (total / len(inputs)).mean(axis=0) for at, total in sums.items()}
    problems = {at: "does not depend on the input" for at in places if at not in fields}
    for hook_point, values in fields.items():
        if not np.isfinite(values).all():
            problems[hook_point] = "has gradients that are not finite"
        elif values.max() <= ROUNDING * sizes[hook_point]:
            problems[hook_point] = "has the same sum over channels whatever the input: no gradient"
    return {at: field for at, field in fields.items() if at not in problems}, problems


def start(study: Study) -> Accumulator:
    """Begin; all the work is done in `result`, since gradients need passes of their own.

    Raises:
        NotApplicable: no layer of any model lies over the image.
    """
    if not any(depths(network) for network in study.compared):
        raise NotApplicable("no model has layers whose outputs lie over the image")
    return _ReceptiveFields(study)


def depths(network: ComparedNetwork) -> dict[str, float]:
    """Return the relative depth of all layers to measure, in order.

    These are the stem (0) and the blocks (i/B after the i-th of B) whose outputs lie over the
    image; in a network without blocks, the layers chosen for the comparison.
    """
    blocks = network.trace.of_role("block")
    found = dict.fromkeys(network.trace.of_role("stem") if blocks else (), 0.0)
    order = blocks or network.layers
    found |= {name: (i + 1) / len(order) for i, name in enumerate(order)}
    return {name: depth for name, depth in found.items() if layout_of(network, name)}


def centre_of(network: ComparedNetwork, layer: str) -> Place | None:
    """Return what takes the centre location's feature (n, channels) out of a layer's output."""
    layout = layout_of(network, layer)
    if layout is None:
        return None
    place = layout.height // 2 * layout.width + layout.width // 2
    return lambda value: places_of(value, layout)[:, place]


class _ReceptiveFields(Accumulator):
    def __init__(self, study: Study) -> None:
        self.study = study
        self.radii: list[Replicates] = []  # of every layer's output, without its branches
        self.notes: list[str] = []

    def result(self) -> Result:
        found: dict[str, dict[str, NDArray[np.float64]]] = {}
        networks = [network for network in self.study.networks if depths(network)]
        for network in self.study.networks:
            if network in networks:
                found[network.name] = self._fields(network)
            elif network.compared:
                self.notes.append(f"{network.name}: no layer's output lies over the image")
        rows = [(network, layer) for network in networks for layer in depths(network)]
        data = xr.Dataset(self._radii(networks), layer_axis(rows))
        metrics = [m for network in networks for m in _ends(data, network.name)]
        parts = [_part(n, found[n.name]) for n in networks if n.compared]
        used = min(IMAGES, len(self.study.images))
        return Result(data, tuple(parts), tuple(metrics), tuple(self.notes), used)

    def _radii(self, networks: Sequence[ComparedNetwork]) -> dict[str, Any]:
        """Return the radii with 50 % and 90 % of each layer's field over half the diagonal."""
        sizes = [n.model.spec.image_size for n in networks for _ in depths(n)]
        half = np.hypot(*np.array([sizes, sizes]) / 2)
        shares = in_rows(self.radii, len(SHARES)).map(lambda radii: radii.T / half)
        variables: dict[str, Any] = {}
        for i, name in enumerate(SHARES):
            variables |= replicated(name, "layer", shares[i], unit="half-diagonals")
        return variables

    def _fields(self, network: ComparedNetwork) -> dict[str, NDArray[np.float64]]:
        """Return maps (layers, height, width) by path; NaN for a layer without one (see notes)."""
        model, layers = network.model, list(depths(network))
        groups = {HookPoint(layer): GroupedMean(GROUPS) for layer in layers}
        done = 0

        def on_map(hook_point: HookPoint, maps: NDArray[np.float64]) -> None:
            nonlocal done
            done += len(maps)
            self.on_progress(done, len(places) * len(inputs), f"gradients of {network.name}")
            if hook_point in groups:
                groups[hook_point].add(maps)

        rows = choose_images(len(self.study.images), IMAGES, self.study.settings.seed)
        inputs = model_input(self.study.images[rows], model.spec, model.module)
        hook_points = {(SUM, layer): HookPoint(layer) for layer in layers}
        # Before training, blocks are a baseline; branches, a gradient each, are not asked about.
        compared = network.compared
        branches = find_branches(model.module, network.trace, inputs[:1]) if compared else ()
        for branch in branches:
            if centre_of(network, branch.output.layer):
                hook_points[branch.kind, branch.block] = branch.output
        places = {
            hook_point: place
            for hook_point in hook_points.values()
            if (place := centre_of(network, hook_point.layer))
        }
        batch = min(IMAGES, max(1, PIXELS_A_PASS // inputs[0, 0].numel()))
        fields, problems = receptive_fields(
            model.module, inputs, places, batch_size=batch, each=on_map
        )
        for hook_point, gathered in groups.items():
            radii_of = partial(_radii_of, known=hook_point in fields)
            self.radii.append(gathered.result().map_stepwise(radii_of))
        if network.compared:
            self.notes += [
                f"{network.name}: {network.label(hook_point.layer)} {why}"
                for hook_point, why in problems.items()
            ]
        paths = dict.fromkeys(path for path, _ in hook_points)
        maps = {path: np.full((len(layers), *inputs.shape[2:]), np.nan) for path in paths}
        for (path, layer), hook_point in hook_points.items():
            if hook_point in fields and layer in layers:
                maps[path][layers.index(layer)] = fields[hook_point]
        return maps


def _part(network: ComparedNetwork, maps: Mapping[str, NDArray]) -> Part:
    values = np.stack(list(maps.values())).astype(np.float32)
    names = {"path": column(list(maps)), "name": ("layer", column(list(depths(network))))}
    fields = variable(("path", "layer", "y", "x"), values)
    return Part(network.name, xr.Dataset({"map": fields}, names))


def _radii_of(field: NDArray[np.float64], known: bool) -> NDArray[np.float64]:
    """Return the radii (2,) in pixels with 50 % and 90 % of a field; NaN where it is not known."""
    if not known or not np.isfinite(field).all():
        return np.full(2, math.nan)
    return np.array([mass_radius(field, share) for share in SHARES.values()])


def _ends(data: xr.Dataset, network: str) -> Iterator[Metric]:
    """Yield the radius of a network's first and last block, if it has any."""
    for key, share in SHARES.items():
        radii = select(data[key], network)
        blocks = radii.values[radii["block"].values >= 0]
        if blocks.size:
            name = f"radius{100 * share:.0f}"
            yield Metric(f"{name}_first_block", float(blocks[0]), network)
            yield Metric(f"{name}_last_block", float(blocks[-1]), network)


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw each model's maps at chosen depths, and all models' radii against relative depth."""
    names = [name for name in compared if name in result.networks]
    even = {
        key: mass_radius(np.ones((128, 128)), share) / math.hypot(64, 64)
        for key, share in SHARES.items()
    }
    radii = {n: select(result.data["reach"], n) for n in names}
    labels = {n: layer_labels(r["name"].values, r["role"].values) for n, r in radii.items()}
    maps = [
        Drawing("receptive-field-{}", draw_maps(result.part(n), labels[n]), (n,)) for n in names
    ]
    return [*maps, Drawing("receptive-field-radius", draw_radii(result, names, even))]
