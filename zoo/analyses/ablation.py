"""Ablation: how much accuracy is lost without a block's branches, or without its skips?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About
from zoo.analyses.accuracy import name_undecided, predictions
from zoo.capture.ablate import PARTS, ablated
from zoo.capture.branches import Branch, find_branches
from zoo.figures import style
from zoo.measures.intervals import paired_difference
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of, model_input
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Array, Result
from zoo.study.spatial_layout import choose_images, example_input

ABOUT = About(
    name="ablation",
    title="Blocks without their branches or skips",
    shows=(
        "How much accuracy a trained model loses when one block's branches are zeroed, so that "
        "only its skip is left, and when its skips are zeroed, so that only the branches are."
    ),
    reading=(
        "A block that can lose its branches at no cost adds little; one that cannot lose its "
        "skips relies on what came before it. Lines are 95 % intervals for that many images: "
        "where they reach 0, the loss may be chance."
    ),
    needs="outputs",
    source="beside Raghu et al. 2021, Fig. 8, who train anew without a block's skips",
    settings=("seed",),
    captions={
        "ablation": "Accuracy lost without the branches, and without the skips, of each block.",
    },
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
    for s, subject in enumerate(study.models):
        if tuple(subject.model.spec.class_names) != study.class_names:
            notes.append(f"{subject.name}: not ablated, since it was trained on other classes")
            continue
        branches = find_branches(subject.model.module, subject.trace, example_input(subject))
        if branches:
            found[s] = branches
        else:
            notes.append(f"{subject.name}: not ablated: no residual sum was found in its blocks")
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
        deepest = max(len(study.models[s].trace.of_role("block")) for s in branches)
        most = min(IMAGES, max(FEWEST, ABLATED_PASSES // (len(PARTS) * deepest)))
        rows = choose_images(len(study.images), most, study.settings.seed)
        self.images, self.classes = study.images[rows], classes[rows]
        if len(rows) < len(study.images):
            notes.append(
                f"measured on {len(rows)} of {len(study.images):,} images, drawn at random to save "
                "time; the accuracies on them differ from those on all images"
            )
        self.arrays = {"images": Array(np.array(len(rows)), ())}
        self.metrics: dict[str, float] = {}
        self.labels: dict[str, tuple[str, ...]] = {
            "part": PARTS,
            "end": ("drop", "low", "high"),
        }

    def result(self) -> Result:
        subjects = {s: self.study.models[s] for s in self.branches}
        for s, subject in subjects.items():
            self._ablate(subject, self.branches[s])
        names = tuple(subject.name for subject in subjects.values())
        notes, count = tuple(self.notes), len(self.images)
        return Result(names, self.arrays, self.metrics, self.labels, notes, count)

    def _ablate(self, subject: ComparedNetwork, branches: Sequence[Branch]) -> None:
        """Measure the accuracy that is lost without each block's branches, and its skips."""
        name, blocks = subject.name, subject.trace.of_role("block")
        sums = {block: [b for b in branches if b.block == block] for block in blocks}
        predicted = self._predict(subject)
        self.notes += name_undecided(name, predicted)
        intact = predicted == self.classes
        drops = np.full((len(PARTS), len(blocks), 3), np.nan)
        for p, part in enumerate(PARTS):
            for i, block in enumerate(blocks):
                if sums[block]:
                    with ablated(subject.model.module, sums[block], part):
                        right = self._predict(subject) == self.classes
                    drops[p, i] = paired_difference(intact, right)
            worst = float(np.nanmax(drops[p, :, 0]))
            self.metrics[f"ablation/{name}/worst_drop_without_{part}"] = worst
        empty = [block for block in blocks if not sums[block]]
        if empty:
            self.notes.append(f"{name}: found no residual sum in {', '.join(empty)}")
        self.metrics[f"ablation/{name}/accuracy_intact"] = float(intact.mean())
        self.labels[f"block[{name}]"] = blocks
        self.arrays[f"accuracy_drop/{name}"] = Array(drops, ("part", f"block[{name}]", "end"))

    def _predict(self, subject: ComparedNetwork) -> NDArray[np.int64]:
        predicted = []
        size = self.study.settings.batch_size
        module = subject.model.module
        with torch.inference_mode(), eval_mode(module):
            for start in range(0, len(self.images), size):
                x = model_input(self.images[start : start + size], subject.model.spec, module)
                predicted.append(predictions(logits_of(module(x))))
        return np.concatenate(predicted)


def draw(result: Result) -> dict[str, Figure]:
    """Draw the accuracy lost without each block's branches or skips, with 95 % intervals."""
    count = int(result.arrays["images"].values)
    with style.styled():
        figure = style.new_figure(height=0.6 + 1.8 * len(result.models))
        axes = figure.subplots(len(result.models), 1, squeeze=False, sharey=True)[:, 0]
        for axis, name in zip(axes, result.models, strict=True):
            blocks = result.labels[f"block[{name}]"]
            for p, part in enumerate(result.labels["part"]):
                drops = 100 * result.arrays[f"accuracy_drop/{name}"].values[p].T
                _draw_part(axis, drops, p, f"without its {part}")
            axis.axhline(0, color="0.3", linewidth=0.6)
            ticks, names = style.choose_labels(blocks, style.MOST_MARKERS)
            # Upright names shorten the panel that they stand under.
            names = [style.shorten(block, 14) for block in names]
            axis.set_xticks(ticks, names, rotation=90 if len(blocks) > 9 else 0)
            accuracy = result.metrics[f"ablation/{name}/accuracy_intact"]
            axis.set_title(f"{name}: {100 * accuracy:.1f} % intact, {count} images", loc="left")
        figure.supylabel("accuracy lost (percentage points)", fontsize=8)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return {"ablation": figure}


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
