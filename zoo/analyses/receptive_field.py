"""Effective receptive field: which pixels does the centre of a layer depend on?

Raghu et al. 2021, Figs 6 and C.1-C.4; the measure is that of Luo et al. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from zoo.analyses.about import About
from zoo.analyses.receptive_field_figures import SHARES, draw_maps, draw_radii
from zoo.capture.branches import find_branches
from zoo.capture.hook_points import HookPoint, observe
from zoo.models.modes import eval_mode
from zoo.models.preprocess import model_input
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Array, Result
from zoo.study.spatial_layout import choose_images, layout_of, places_of

ABOUT = About(
    name="receptive-field",
    title="Effective receptive field",
    shows=(
        "How strongly the feature at the centre of each layer depends on each input pixel, and "
        "the radius of the disc that holds 50 % and 90 % of that dependence."
    ),
    reading=(
        "A small bright spot is a layer that looks at a neighbourhood, an even field one that "
        "looks at the whole image; each map is scaled by its own maximum, on a logarithmic scale, "
        "so that a faint rest shows. Spread over many pixels, such a rest can hold half of the "
        "mass: the radius with 50 % then tells of the bright spot, the one with 90 % of the rest. "
        "In the radius figure, a line that climbs is a network that widens its view step by step; "
        "the dotted line is a field spread evenly over the image."
    ),
    needs="gradients",
    source="Raghu et al. 2021, Figs 6, C.1-C.4; Luo et al. 2016",
    settings=("seed",),
    captions={
        "receptive-field-{}": "Which pixels the centre of each layer of {} depends on.",
        "receptive-field-radius": "The radius that holds 50 % and 90 % of that dependence.",
    },
)

IMAGES = 32
ORDERS = ("before", "after")
# A pass keeps the activations of all layers for its gradients: few large images at a time.
PIXELS_A_PASS = 8 * 224 * 224
# A gradient this much smaller than the feature is the rounding of a constant one.
ROUNDING = 1e-7

Place = Callable[[torch.Tensor], torch.Tensor]


def gradient_map(gradients: NDArray, *, absolute: str = "before") -> NDArray[np.float64]:
    """Return the effective receptive field from gradients with respect to the input.

    Args:
        gradients: (n, channels, height, width), one of each image.
        absolute: `before` takes the absolute value of every image's gradient and then averages
            over images; `after` averages first. The default is `before`: after averaging,
            influences whose sign differs between images cancel, so that the map would depend
            on n and miss pixels that matter in every image.

    Returns:
        (height, width), not negative; the mean over images and input channels.

    >>> gradient_map(np.array([[[[1.0]]], [[[-3.0]]]]))
    array([[2.]])
    >>> gradient_map(np.array([[[[1.0]]], [[[-3.0]]]]), absolute="after")
    array([[1.]])
    """
    if absolute not in ORDERS:
        raise ValueError(f"absolute: expected one of {ORDERS}, got {absolute!r}")
    values = np.asarray(gradients, dtype=np.float64)
    values = np.abs(values) if absolute == "before" else values
    return np.abs(values.mean(axis=0)).mean(axis=0)


def mass_radius(
    weights: NDArray, share: float, *, centre: tuple[float, float] | None = None
) -> float:
    """Return the radius in pixels of the disc that holds a share of a field's mass.

    Args:
        weights: (height, width), not negative, not all zero.
        share: of the mass, in (0, 1].
        centre: (y, x) of the disc; by default the field's centre of mass, since the image place
            of a location deep in a CNN is known only up to the strides before it.

    >>> mass_radius(np.ones((1, 5)), 0.6)
    1.0
    """
    mass = np.asarray(weights, dtype=np.float64)
    total = mass.sum()
    if not 0 < share <= 1 or not math.isfinite(total) or total <= 0 or mass.min() < 0:
        raise ValueError(f"expected a share in (0, 1] of a positive mass, got {share} of {total}")
    y, x = np.indices(mass.shape)
    if centre is None:
        centre = (float((mass * y).sum() / total), float((mass * x).sum() / total))
    distance = np.hypot(y - centre[0], x - centre[1]).ravel()
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
    absolute: str = "before",
    batch_size: int = IMAGES,
) -> tuple[dict[HookPoint, NDArray[np.float64]], dict[HookPoint, str]]:
    """Return the effective receptive fields of layers of a network.

    Args:
        module: the network; it runs in eval mode, and its weights' gradients stay as they are.
        inputs: (n, channels, height, width) float, as the network takes them.
        places: for each tap, what takes one location's feature (n, channels) out of its tensor.
        absolute: the order of averaging, as in `gradient_map`.
        batch_size: images in a pass, which runs forward once and backward once a tap.

    Returns:
        Fields (height, width) by tap, and why there is none for the other taps.

    Source: Raghu et al. 2021, Fig. 6.
    """
    sums: dict[HookPoint, NDArray[np.float64]] = {}
    sizes = dict.fromkeys(places, 0.0)
    targets: dict[HookPoint, torch.Tensor] = {}

    def on_value(tap: HookPoint, value: torch.Tensor) -> None:
        # Summed at once: a later in-place operation would become part of the feature.
        feature = places[tap](value).float()
        sizes[tap] += float(feature.detach().abs().sum()) / len(inputs)
        if feature.requires_grad:
            targets[tap] = feature.sum()

    with torch.enable_grad(), eval_mode(module), observe(module, places, on_value):
        for batch in inputs.split(batch_size):
            leaf = batch.detach().requires_grad_()
            # A copy: a network may work in place on its input, which a leaf does not allow.
            module(leaf.clone())
            for tap, target in targets.items():
                (gradient,) = torch.autograd.grad(
                    target, leaf, retain_graph=True, materialize_grads=True
                )
                gradient = gradient.abs() if absolute == "before" else gradient
                total = gradient.sum(dim=0, dtype=torch.float64).cpu().numpy()
                sums[tap] = sums.get(tap, 0.0) + total
            targets.clear()
    fields = {
        tap: gradient_map(total[None] / len(inputs), absolute=absolute)
        for tap, total in sums.items()
    }
    problems = {tap: "does not depend on the input" for tap in places if tap not in fields}
    for tap, values in fields.items():
        if not np.isfinite(values).all():
            problems[tap] = "has gradients that are not finite"
        elif values.max() <= ROUNDING * sizes[tap]:
            problems[tap] = "has the same sum over channels whatever the input: no gradient"
    return {tap: fields[tap] for tap in fields if tap not in problems}, problems


def start(study: Study, *, absolute: str = "before") -> Accumulator:
    """Begin; all the work is done in `result`, since gradients need passes of their own.

    Raises:
        NotApplicable: no layer of any model lies over the image.
    """
    if not any(depths(subject) for subject in study.models):
        raise NotApplicable("no model has layers whose outputs lie over the image")
    return _ReceptiveFields(study, absolute)


def depths(subject: ComparedNetwork) -> dict[str, float]:
    """Return the relative depth of all layers to measure, in order.

    These are the stem (0) and the blocks (i/B after the i-th of B) whose outputs lie over the
    image; in a network without blocks, the layers chosen for the comparison.
    """
    blocks = subject.trace.of_role("block")
    found = dict.fromkeys(subject.trace.of_role("stem") if blocks else (), 0.0)
    order = blocks or subject.layers
    found |= {name: (i + 1) / len(order) for i, name in enumerate(order)}
    return {name: depth for name, depth in found.items() if layout_of(subject, name)}


def centre_of(subject: ComparedNetwork, layer: str) -> Place | None:
    """Return what takes the centre location's feature (n, channels) out of a layer's output."""
    layout = layout_of(subject, layer)
    if layout is None:
        return None
    place = layout.height // 2 * layout.width + layout.width // 2
    return lambda value: places_of(value, layout)[:, place]


class _ReceptiveFields(Accumulator):
    def __init__(self, study: Study, absolute: str) -> None:
        self.study, self.absolute = study, absolute
        self.arrays: dict[str, Array] = {}
        self.metrics: dict[str, float] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []

    def result(self) -> Result:
        for subject in self.study.models:
            if depths(subject):
                self._measure(subject)
            else:
                self.notes.append(f"{subject.name}: no layer's output lies over the image")
        names = tuple(s.name for s in self.study.models if f"map/{s.name}" in self.arrays)
        used = min(IMAGES, len(self.study.images))
        return Result(names, self.arrays, self.metrics, self.labels, tuple(self.notes), used)

    def _measure(self, subject: ComparedNetwork) -> None:
        name, model, layers = subject.name, subject.model, depths(subject)
        rows = choose_images(len(self.study.images), IMAGES, self.study.settings.seed)
        inputs = model_input(self.study.images[rows], model.spec, model.module)
        hook_points = {layer: HookPoint(layer) for layer in layers}
        branches = {
            f"{branch.block} {branch.kind}": branch.output
            for branch in find_branches(model.module, subject.trace, inputs[:1])
            if centre_of(subject, branch.output.layer)
        }
        every = (*hook_points.values(), *branches.values())
        places = {tap: place for tap in every if (place := centre_of(subject, tap.layer))}
        batch = min(IMAGES, max(1, PIXELS_A_PASS // inputs[0, 0].numel()))
        fields, problems = receptive_fields(
            model.module, inputs, places, absolute=self.absolute, batch_size=batch
        )
        self.notes += [f"{name}: {tap.layer} {why}" for tap, why in problems.items()]
        self._keep(f"layer[{name}]", "", hook_points, fields, inputs.shape[-1])
        if branches:
            self._keep(f"branch[{name}]", "branch_", branches, fields, inputs.shape[-1])
        depth = np.array(list(layers.values()))
        self.arrays[f"depth/{name}"] = Array(depth, (f"layer[{name}]",))
        for key in SHARES:
            blocks = self.arrays[f"{key}_share/{name}"].values[depth > 0]
            ends = {"first_block": blocks[:1], "last_block": blocks[-1:]}
            # 1: as wide at once as at the end; near 0: it grows on the way.
            ends["first_to_last"] = blocks[:1] / np.where(blocks[-1:] > 0, blocks[-1:], np.nan)
            for what, value in ends.items():
                if np.isfinite(value).any():
                    self.metrics[f"receptive-field/{name}/{key}_{what}"] = float(value[0])

    def _keep(
        self,
        dim: str,
        prefix: str,
        hook_points: Mapping[str, HookPoint],
        fields: Mapping,
        side: int,
    ) -> None:
        """Keep maps and radii; NaN for a layer that has none (the notes say why)."""
        name, empty = dim.partition("[")[2][:-1], np.full((side, side), np.nan)
        maps = np.stack([fields.get(tap, empty) for tap in hook_points.values()])
        self.labels[dim] = tuple(hook_points)
        self.arrays[f"{prefix}map/{name}"] = Array(maps.astype(np.float32), (dim, "y", "x"))
        for key, share in SHARES.items():
            defined = np.isfinite(maps).all(axis=(1, 2))
            radius = np.full(len(maps), np.nan)
            radius[defined] = [mass_radius(m, share) for m in maps[defined]]
            self.arrays[f"{prefix}{key}/{name}"] = Array(radius, (dim,), "pixels")
            shares = radius / math.hypot(side / 2, side / 2)
            self.arrays[f"{prefix}{key}_share/{name}"] = Array(shares, (dim,), "half-diagonals")


def draw(result: Result) -> dict[str, Figure]:
    """Draw each model's maps at chosen depths, and all models' radii against relative depth."""
    even = {
        key: mass_radius(np.ones((128, 128)), share) / math.hypot(64, 64)
        for key, share in SHARES.items()
    }
    figures = {f"receptive-field-{name}": draw_maps(result, name) for name in result.models}
    return figures | {"receptive-field-radius": draw_radii(result, even)}
