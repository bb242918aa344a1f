"""Ablation: how much accuracy is lost without a block's branches, or without its skips?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.accuracy import name_undecided
from zoo.capture.ablate import PARTS, ablated
from zoo.capture.branches import Branch, find_branches, notes_on_gaps
from zoo.capture.resume import passes, record_blocks, resumable_blocks, resumed
from zoo.figures import style
from zoo.measures.intervals import paired_difference
from zoo.models.preprocess import model_input
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.answers import logits_on, predictions, why_unrated
from zoo.study.axes import column, estimate, layer_axis, select
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import SIGNED, Metric, Result
from zoo.study.spatial_layout import choose_images, example_input

ABOUT = About(
    name="ablation",
    title="Blocks without their branches or skips",
    shows=(
        "How much accuracy a trained model loses when one block's branches are zeroed, so that "
        "only its skip is left, and when its skips are zeroed, so that only the branches are."
    ),
    reading=(
        "A block that can lose its branches at no cost adds little; one that cannot lose its skips "
        "relies on what came before it. Lines are 95 % intervals for that many images: where they "
        "reach 0, the loss may be chance."
    ),
    needs="outputs",
    source="related to Raghu et al. 2021, Fig. 8, who retrain without a block's skips",
    settings=("seed",),
    captions={
        "ablation": "Accuracy lost without the branches, and without the skips, of each block.",
    },
    metrics={
        "accuracy_intact": "accuracy of the whole network on these images",
        "worst_drop_without_branch": "largest drop of accuracy without a block's branches",
        "worst_drop_without_skip": "largest drop of accuracy without a block's skips",
    },
    units=dict.fromkeys(("worst_drop_without_branch", "worst_drop_without_skip"), SIGNED),
)

IMAGES = 128
# Two passes a block are many in a deep network: all models get fewer images, but not under this.
ABLATED_PASSES, FEWEST = 1024, 32
# Without branch, without skip: colours belong to models.
SHADES, LINES = ("0.75", "0.45"), ("-", "--")


def start(study: Study) -> Accumulator:
    """Begin; an image of noise is run through each model to find its residual sums.

    Raises:
        NotApplicable: no labels, or no model with residual sums that knows their classes.
    """
    if study.labels is None:
        raise NotApplicable("the images have no labels")
    found: dict[int, tuple[Branch, ...]] = {}
    notes = []
    for s, network in enumerate(study.compared):
        if reason := why_unrated(study, network):
            notes.append(f"{network.name}: not ablated, since {reason}")
            continue
        branches = find_branches(network.model.module, network.trace, example_input(network))
        if branches:
            found[s] = branches
        else:
            notes.append(f"{network.name}: not ablated: no residual sum was found in its blocks")
    if not found:
        raise NotApplicable("; ".join(notes))
    return _Ablation(study, study.labels, found, notes)


class _Ablation(Accumulator):
    """Asks for nothing in the common pass: it makes its own, one a block and part."""

    def __init__(
        self,
        study: Study,
        classes: NDArray[np.int64],
        branches: dict[int, tuple[Branch, ...]],
        notes: list[str],
    ) -> None:
        self.study, self.branches, self.notes = study, branches, notes
        deepest = max(len(study.compared[s].trace.of_role("block")) for s in branches)
        most = min(IMAGES, max(FEWEST, ABLATED_PASSES // (len(PARTS) * deepest)))
        rows = choose_images(len(study.images), most, study.settings.seed)
        self.images, self.classes = study.images[rows], classes[rows]
        if len(rows) < len(study.images):
            notes.append(
                f"measured on {len(rows)} of {len(study.images):,} images, drawn at random to save "
                "time; the accuracies on them differ from those on all images"
            )
        self.metrics: list[Metric] = []

    def result(self) -> Result:
        networks = [self.study.compared[s] for s in self.branches]
        each = [self._drops(self.study.compared[s], own) for s, own in self.branches.items()]
        drops = np.moveaxis(np.concatenate(each, axis=1), -1, 0)
        rows = [
            (network, block) for network in networks for block in network.trace.of_role("block")
        ]
        data = xr.Dataset(
            estimate("accuracy_drop", ("part", "layer"), drops, kind="paired over images"),
            layer_axis(rows) | {"part": column(PARTS)},
        )
        return Result(data, (), tuple(self.metrics), tuple(self.notes), len(self.images))

    def _drops(self, network: ComparedNetwork, branches: Sequence[Branch]) -> NDArray[np.float64]:
        """Return the accuracy lost (part, block, 3) without a block's branches, and its skips.

        The last axis is the loss and its 95 % interval.
        """
        name, blocks = network.name, network.trace.of_role("block")
        sums = {block: [b for b in branches if b.block == block] for block in blocks}
        predicted, without = self._predict(network, sums)
        self.notes += name_undecided(name, predicted)
        intact = predicted == self.classes
        drops = np.full((len(PARTS), len(blocks), 3), np.nan)
        for p, part in enumerate(PARTS):
            for i, block in enumerate(blocks):
                if sums[block]:
                    drops[p, i] = paired_difference(intact, without[part, block] == self.classes)
            worst = float(np.nanmax(drops[p, :, 0]))
            self.metrics.append(Metric(f"worst_drop_without_{part}", worst, name))
        gaps = notes_on_gaps(network.model.module, network.trace, branches)
        self.notes += [f"{name}: {gap}" for gap in gaps]
        self.metrics.append(Metric("accuracy_intact", float(intact.mean()), name))
        return drops

    def _predict(
        self, network: ComparedNetwork, sums: Mapping[str, Sequence[Branch]]
    ) -> tuple[NDArray[np.int64], dict[tuple[str, str], NDArray[np.int64]]]:
        """Return a network's answers, and those without a part of a block by part and block.

        What runs before a block is not changed by it: that part of the pass is made once.
        """
        module, once = network.model.module, resumable_blocks(network.trace)
        whole: list[NDArray[np.int64]] = []
        without: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
        for pixels in passes(model_input(self.images, network.model.spec, module)):
            outputs, logits = record_blocks(module, once, pixels)
            whole.append(predictions(logits))
            before: dict[str, Any] = {}
            for block, branches in sums.items():
                for part in PARTS if branches else ():
                    with resumed(module, before), ablated(module, branches, part):
                        found = logits_on(network, pixels, len(pixels))
                    without.setdefault((part, block), []).append(predictions(found))
                if block in outputs:
                    before[block] = outputs[block]
        return np.concatenate(whole), {key: np.concatenate(of) for key, of in without.items()}


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw the accuracy lost without each block's branches or skips, with 95 % intervals."""
    names = [name for name in compared if name in result.networks]
    with style.styled():
        figure = style.new_figure(height=0.6 + 1.8 * len(names))
        axes = figure.subplots(len(names), 1, squeeze=False, sharey=True)[:, 0]
        for axis, name in zip(axes, names, strict=True):
            drops, ends = (
                select(result.data[v], name) for v in ("accuracy_drop", "accuracy_drop_ci")
            )
            blocks = [str(block) for block in drops["name"].values]
            for p, part in enumerate(PARTS):
                lost = np.stack([drops.values[p], *np.moveaxis(ends.values[p], -1, 0)])
                _draw_part(axis, 100 * lost, p, f"without its {part}")
            axis.axhline(0, color="0.3", linewidth=0.6)
            ticks, shown = style.choose_labels(blocks, style.MOST_MARKERS)
            # Upright names shorten the panel that they stand under.
            shown = [style.shorten(block, 14) for block in shown]
            axis.set_xticks(ticks, shown, rotation=90 if len(blocks) > 9 else 0)
            accuracy = 100 * (result.metric("accuracy_intact", name) or 0)
            axis.set_title(f"{name}: {accuracy:.1f} % intact, {result.images} images", loc="left")
        figure.supylabel("accuracy lost (percentage points)", fontsize=8)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return [Drawing("ablation", figure)]


def _draw_part(axis: Axes, drops: NDArray[np.float64], part: int, label: str) -> None:
    """Draw (drop, low, high) by block as bars; of too many blocks, as a line and a band."""
    drop, low, high = drops
    places = np.arange(len(drop))
    if len(drop) > style.MOST_MARKERS:
        axis.plot(places, drop, LINES[part], linewidth=1, color=SHADES[part], label=label)
        axis.fill_between(places, low, high, color=SHADES[part], alpha=0.2, linewidth=0)
        return
    axis.bar(
        places + (part - 0.5) * 0.36, drop, 0.34, color=SHADES[part], label=label,
        yerr=np.maximum([drop - low, high - drop], 0), error_kw={"linewidth": 0.7},
    )  # fmt: skip
