"""Frequency: which frequencies do layers keep, and which does a network need to be right?

Park & Kim 2022, Figs 2 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.frequency_answers import answers_on_changed_images
from zoo.analyses.frequency_figures import draw_answers, draw_curves, draw_depth
from zoo.capture.branches import Branch, find_branches
from zoo.capture.hook_points import HookPoint, OfLast
from zoo.measures.frequency import half_diagonal, relative_log_amplitudes
from zoo.measures.intervals import mean_interval
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.answers import predictions, rated_networks
from zoo.study.axes import column, estimate, layer_axis
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import SIGNED, Metric, Part, Result
from zoo.study.spatial_layout import Layout, example_input, layout_of, places_of

ABOUT = About(
    name="frequency",
    title="Frequencies",
    shows=(
        "How strong each spatial frequency of a layer's feature maps is against their mean (Δ log "
        "amplitude), how every branch changes the highest one, and what the networks answer when "
        "noise fills one band of frequencies, or when the low frequencies of an image are joined "
        "with the high ones of another."
    ),
    reading=(
        "A layer whose curve falls steeply has smooth maps. A branch below 0 in the second panel "
        "smooths, one above 0 sharpens. Where accuracy under noise falls, noise of that band "
        "disturbs the network; the hybrid images show whether it needs what images hold there. "
        "Bands and bars are 95 % intervals over images."
    ),
    needs="activations",
    source="Park & Kim 2022, Figs 2, 8; hybrid images: Oliva et al. 2006",
    settings=("batch_size", "seed"),
    captions={
        "frequency-depth": "The highest frequency of each layer, and how each branch changes it.",
        "frequency-curves": "How strong each frequency is, for layers from first to last.",
        "frequency-answers": "Accuracy under noise of one band, and answers on hybrid images.",
    },
    metrics={
        "change_attention": "change of the highest frequency by attention, mean over blocks",
        "change_mlp": "change of the highest frequency by MLPs, mean over blocks",
        "change_residual": "change of the highest frequency by branches whose skip is plain",
        "lost_to_high_noise": "accuracy lost to noise of the upper 40 % of frequencies",
        "lost_to_low_noise": "accuracy lost to noise of the lower 60 % of frequencies",
        "lost_to_high_noise_difference": "accuracy lost to high noise, first minus second",
    },
    unit=SIGNED,
    units=dict.fromkeys(("change_attention", "change_mlp", "change_residual"), "log"),
)

STUDENT = "Student's t over images"
Curves = dict[tuple[int, HookPoint], NDArray[np.float32]]


def start(study: Study) -> Accumulator:
    """Begin; an image of noise is run through each network to find its residual sums.

    Raises:
        NotApplicable: no network has a block whose output lies over the image.
    """
    accumulator = _Frequency(study)
    if not accumulator.layouts:
        raise NotApplicable("no block's output lies over the image in 2 × 2 places or more")
    return accumulator


class _Frequency(Accumulator):
    """Keeps one curve per image for every stem, block and stream that a branch is added to."""

    gathers = ("curves", "left_out", "predicted")

    def __init__(self, study: Study) -> None:
        self.study = study
        self.layouts: dict[tuple[int, HookPoint], Layout] = {}
        self.curves: dict[tuple[int, HookPoint], list[NDArray[np.float32]]] = {}
        self.left_out: dict[tuple[int, HookPoint], float] = {}
        self.branches: dict[int, list[tuple[Branch, HookPoint]]] = {}
        self.rated: dict[int, ComparedNetwork] = {}
        self.curves_of = OfLast(_curves_of)
        self.notes: list[str] = []
        try:
            self.rated, self.notes = rated_networks(study, "no answers under noise")
        except NotApplicable as reason:
            self.notes = [f"no answers under noise: {reason}"]
        self.predicted: dict[int, list[NDArray[np.int64]]] = {s: [] for s in self.rated}
        for s, network in enumerate(study.networks):
            outputs = (*network.trace.of_role("stem"), *network.trace.of_role("block"))
            hook_points = {HookPoint(name): name for name in outputs}
            module, example = network.model.module, example_input(network)
            self.branches[s] = list(_sums(find_branches(module, network.trace, example)))
            hook_points |= {branch.skip: branch.block for branch, _ in self.branches[s]}
            for hook_point, layer in hook_points.items():
                layout = layout_of(network, layer)
                if layout and layout.height == layout.width > 1:
                    self.layouts[s, hook_point] = layout
                    self.curves[s, hook_point] = []

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [hook_point for s, hook_point in self.layouts if s == index]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        key = index, hook_point
        curves, left_out = self.curves_of(value, self.layouts[key])
        self.curves[key].append(curves)
        self.left_out[key] = self.left_out.get(key, 0.0) + left_out

    def end_batch(self, batch: Batch) -> None:
        for s in self.rated:
            self.predicted[s].append(predictions(batch.logits[s]))

    def result(self) -> Result:
        found = {key: np.concatenate(parts) for key, parts in self.curves.items() if parts}
        rows = [
            (s, network, name)
            for s, network in enumerate(self.study.networks)
            for name in (*network.trace.of_role("stem"), *network.trace.of_role("block"))
            if (s, HookPoint(name)) in found
        ]
        curves = [_defined_interval(found[s, HookPoint(name)]) for s, _, name in rows]
        highest = np.array([curve[:, -1] for curve in curves]).T
        data = xr.Dataset(
            estimate("highest", "layer", highest, kind=STUDENT),
            layer_axis([(network, name) for _, network, name in rows]),
        )
        parts = [
            Part(
                network.name,
                xr.Dataset(
                    estimate("amplitude", "frequency", curve, kind=STUDENT),
                    {"frequency": half_diagonal(self.layouts[s, HookPoint(name)].height)},
                ),
                name,
            )
            for (s, network, name), curve in zip(rows, curves, strict=True)
            if network.compared
        ]
        answered: dict[int, xr.Dataset] = {}
        metrics: list[Metric] = []
        if self.rated:
            clean = {s: np.concatenate(of) for s, of in self.predicted.items()}
            answered, metrics, notes = answers_on_changed_images(self.study, self.rated, clean)
            self.notes += notes
        for s, network in enumerate(self.study.networks):
            changes, of_branches = self._changes(s, network, found)
            metrics += of_branches
            if network.compared:
                known = answered.get(s, xr.Dataset())
                parts.append(Part(network.name, known.merge(changes)))
        return Result(data, tuple(parts), tuple(metrics), (*self.notes, *self._gaps()))

    def _changes(
        self, s: int, network: ComparedNetwork, found: Curves
    ) -> tuple[xr.Dataset, list[Metric]]:
        """Return what each branch of a network does to the highest frequency, and the means."""
        plain: dict[str, list[NDArray[np.float64]]] = {}
        rows: dict[tuple[str, str], NDArray[np.float64]] = {}
        for branch, after in self.branches[s]:
            before = found.get((s, branch.skip))
            if before is None or (s, after) not in found:
                continue
            step = (found[s, after][:, -1] - before[:, -1]).astype(np.float64)
            rows[branch.kind, branch.block] = _defined_interval(step)
            # A projected skip may also subsample, which is no work of the branch.
            if branch.skip.kind == "input":
                plain.setdefault(branch.kind, []).append(step)
        metrics = [
            Metric.of(f"change_{kind}", _defined_interval(np.mean(of, axis=0)), network.name)
            for kind, of in plain.items()
        ]
        if not rows:
            return xr.Dataset(), metrics
        blocks = network.trace.of_role("block")
        changes = np.array(list(rows.values())).T
        coordinates = {
            "kind": ("branch", column([kind for kind, _ in rows])),
            "depth": ("branch", [(blocks.index(b) + 1) / len(blocks) for _, b in rows]),
        }
        variables = estimate("change", "branch", changes, kind=STUDENT)
        return xr.Dataset(variables, coordinates), metrics

    def _gaps(self) -> list[str]:
        """Name the networks and layers that have no curve, or one of some channels only."""
        notes, n = [], len(self.study.images)
        for s, network in enumerate(self.study.compared):
            known = [hook_point for of, hook_point in self.layouts if of == s]
            if not known:
                blocks = network.trace.of_role("block")
                why = "no layer's output lies over the image" if blocks else "no blocks were found"
                notes.append(f"{network.name}: no curves of layers, since {why}")
            gaps = [
                f"{network.label(hook_point.layer)} {100 * self.left_out[s, hook_point] / n:.0f} %"
                for hook_point in known
                if hook_point.kind == "output" and self.left_out.get((s, hook_point), 0) > 0.005 * n
            ]
            if gaps:
                notes.append(
                    f"{network.name}: channels constant over the image or not finite are left out: "
                    + ", ".join(gaps)
                )
        return notes


def _curves_of(value: torch.Tensor, layout: Layout) -> tuple[NDArray[np.float32], float]:
    """Return the curve of every image, and the sum of the shares of channels left out."""
    # Within a block of windowed attention, a map's places may stand in one row.
    in_a_row = value.ndim == 3 and value.shape[1] == layout.height * layout.width
    places = value if in_a_row else places_of(value, layout)
    curves, left_out = relative_log_amplitudes(places, layout.height)
    return curves.cpu().numpy(), float(left_out.sum())


def _defined_interval(values: NDArray) -> NDArray[np.float64]:
    """Return `mean_interval` of the images that have all values; NaN of fewer than two."""
    defined = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if defined.sum() < 2:
        return np.full((3, *values.shape[1:]), np.nan)
    return mean_interval(values[defined])


def _sums(branches: Sequence[Branch]) -> Iterator[tuple[Branch, HookPoint]]:
    """Yield each branch with where its sum is seen: the next branch's skip, or the block's end."""
    for branch, following in pairwise([*branches, None]):
        assert branch is not None
        inside = following is not None and following.block == branch.block
        yield branch, following.skip if following and inside else HookPoint(branch.block)


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw the highest frequency against depth, curves, and answers on changed images."""
    names = [name for name in compared if name in result.networks]
    drawn = [
        Drawing("frequency-depth", draw_depth(result, names), over_seeds=True),
        Drawing("frequency-curves", draw_curves(result, names)),
    ]
    if any("noise_accuracy" in part.data for part in result.parts):
        drawn.append(Drawing("frequency-answers", draw_answers(result, compared)))
    return drawn
