"""What each change of the gap study does to how its ViT sees, beside what it does to accuracy.

All networks of a seed that were trained on the same images are compared in one pass on test images:
the changes, the CNNs, the baseline before training, and the baseline trained on the most images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.engine import compare_models
from zoo.config import Settings, variant_key
from zoo.config.mapping import from_mapping
from zoo.experiments.gap import Run
from zoo.figures import style
from zoo.files import code_digest, json_digest, read_json, write_json
from zoo.measures.intervals import SHARE, UNBOUNDED, Range, seed_interval
from zoo.models.files import LoadedModel, load_model
from zoo.models.untrained import before_training
from zoo.study.axes import select
from zoo.study.results import RANGES, SIGNED, ComparisonResults

ANALYSES = ("cka", "attention-distance", "receptive-field", "frequency")
IMAGES = 512  # of the test images; the intervals are over seeds
BATCH = 128
CODE = ("analyses", "capture", "measures", "models", "study")  # what decides the numbers
UNTRAINED, MUCH = "before training", "most images"
MEASURES = {
    "cka_with_cnn": "CKA with the CNN,\nbest matches",
    "last_cka_with_cnn": "CKA with the CNN,\nlast blocks",
    "cka_with_much": "CKA with the ViT\nof the most images",
    "attention_distance": "attention distance\n(1: even attention)",
    "field": "receptive field,\nfirst block",
    "high_frequency": "highest frequency,\nlast block (log)",
}
WITHIN: dict[str, Range] = {  # between what they lie; a logarithm has no ends
    **dict.fromkeys(("cka_with_cnn", "last_cka_with_cnn", "cka_with_much"), RANGES[SIGNED]),
    "attention_distance": RANGES["ratio"],
    "field": SHARE,
}


@dataclass(frozen=True)
class Seen:
    """How one network sees; None where a measure does not apply to it.

    `cka_with_cnn` is the CKA of each of its layers with the best matching layer of the CNN trained
    on the same images, mean over layers, and `last_cka_with_cnn` that of the last block of each;
    `cka_with_much` is like the first, with the baseline ViT trained on the most images, from other
    initial weights. `attention_distance` is that of its lowest
    attention, 1 for even attention; `field` the radius that holds 90 % of the receptive field of
    its first block, over half the image's diagonal; `high_frequency` the log amplitude of the
    highest frequency over that of the lowest after its last block.
    """

    model: str
    images: int
    seed: int
    cka_with_cnn: float | None
    last_cka_with_cnn: float | None
    cka_with_much: float | None
    attention_distance: float | None
    field: float | None
    high_frequency: float | None


@dataclass(frozen=True)
class _Record:
    asked: str
    seen: list[Seen]


def look(
    runs: Sequence[Run],
    reference: Mapping[int, str],
    images: NDArray[np.uint8],
    folder: Path,
    *,
    baseline: str,
) -> Iterator[Seen]:
    """Compare the trained networks of each number of images and seed, and yield how each sees.

    Args:
        runs: of the study in `folder`, which holds their models. A seed whose baseline or CNN is
            not trained yet is left out.
        reference: the CNN that counts at a number of training images.
        images: test images (n, height, width, 3).
        folder: of the study; takes `representation`, where what was measured is kept.
        baseline: the ViT that falls behind.
    """
    most = max(run.images for run in runs)
    much = {run.seed: run for run in runs if run.images == most and run.model == baseline}
    groups: dict[tuple[int, int], dict[str, Run]] = {}
    for run in runs:
        groups.setdefault((run.images, run.seed), {})[run.model] = run
    for (count, seed), own in sorted(groups.items()):
        cnn = reference.get(count, "")
        others = sorted(set(much) - {seed})
        if baseline not in own or cnn not in own or not others:
            continue
        # Equal initial weights alone make networks alike: the next seed's, in a circle.
        far = much[next((other for other in others if other > seed), others[0])]
        models = [load_model(_folder(folder, run), name=name) for name, run in own.items()]
        models.append(load_model(_folder(folder, far), name=MUCH))
        asked = _asked(models, cnn, images)
        record = folder / "representation" / f"{own[baseline].subset}-{seed}.json"
        kept = from_mapping(_Record, read_json(record), str(record)) if record.is_file() else None
        if kept is None or kept.asked != asked:
            kept = _Record(asked, _seen(models, own[baseline], cnn, images))
            write_json(record, dataclasses.asdict(kept))
        yield from kept.seen


def _folder(folder: Path, run: Run) -> Path:
    return folder / "models" / variant_key(f"{run.model}-{run.subset}", run.seed)


def _asked(models: Sequence[LoadedModel], cnn: str, images: NDArray[np.uint8]) -> str:
    """Return the digest of all that decides a record."""
    seen = hashlib.sha256(images.tobytes()).hexdigest()
    networks = [(model.name, model.digest) for model in models]
    return json_digest([ANALYSES, BATCH, cnn, code_digest(CODE), networks, seen])


def _seen(
    models: list[LoadedModel], baseline: Run, cnn: str, images: NDArray[np.uint8]
) -> list[Seen]:
    untrained = before_training(next(m for m in models if m.name == baseline.model))
    if untrained is not None:
        models = [*models, dataclasses.replace(untrained, name=UNTRAINED)]
    settings = Settings(batch_size=BATCH, references=False)
    results = compare_models(models, images, only=ANALYSES, settings=settings)
    return [
        Seen(model.name, baseline.images, baseline.seed, *_measures(results, model.name, cnn))
        for model in models
    ]


def _measures(results: ComparisonResults, model: str, cnn: str) -> tuple[float | None, ...]:
    """Return the measures in the order of `MEASURES`."""

    def metric(analysis: str, measure: str, other: str = "") -> float | None:
        result = results.results.get(analysis)  # absent where none can be measured
        return result.metric(measure, model, other) if result else None

    lowest = metric("attention-distance", "lowest_layer_mean")
    even = metric("attention-distance", "uniform")
    highest = select(results.results["frequency"].data["highest"], model).values[-1:]
    blocks = results.results["cka"].data["cka"]
    last = select(blocks, model, cnn, role="block", role_b="block").values[-1:, -1:].ravel()
    return (
        metric("cka", "mean_best_match", cnn),
        float(last[0]) if model != cnn and np.isfinite(last).any() else None,
        metric("cka", "mean_best_match", MUCH),
        lowest / even if lowest is not None and even else None,
        metric("receptive-field", "radius90_first_block"),
        float(highest[0]) if np.isfinite(highest).any() else None,
    )


@dataclass(frozen=True)
class Summary:
    """A measure of a model on `images` images, mean over `seeds` with its 95 % interval."""

    model: str
    images: int
    measure: str
    seeds: int
    value: float
    low: float
    high: float


def summarise_seen(seen: Sequence[Seen]) -> list[Summary]:
    """Return a row for each model, number of images and measure that applies to it."""
    groups: dict[tuple[int, str], list[Seen]] = {}
    for one in seen:
        groups.setdefault((one.images, one.model), []).append(one)
    rows = []
    for (images, model), of_seeds in sorted(groups.items(), key=lambda item: item[0][0]):
        for measure in MEASURES:
            values = [getattr(one, measure) for one in of_seeds]
            if None not in values:
                within = WITHIN.get(measure, UNBOUNDED)
                value, low, high = seed_interval(np.array(values), within).tolist()
                rows.append(Summary(model, images, measure, len(values), value, low, high))
    return rows


def as_markdown(rows: Sequence[Summary], test_images: int) -> str:
    """Return a table a person can read: a line each number of images and model."""
    heads = [" ".join(words.split()) for words in MEASURES.values()]
    lines = [
        f"How each network sees {test_images:,} test images: means over seeds, with 95 % "
        "intervals.",
        "",
        f"| images | model | seeds | {' | '.join(heads)} |",
        "|---:|---|---:|" + "---:|" * len(MEASURES),
    ]
    by_model: dict[tuple[int, str], dict[str, Summary]] = {}
    for row in rows:
        by_model.setdefault((row.images, row.model), {})[row.measure] = row
    for (images, model), own in by_model.items():
        cells = [_cell(own[measure]) if measure in own else "" for measure in MEASURES]
        seeds = max(row.seeds for row in own.values())
        lines.append(f"| {images:,} | {model} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Summary) -> str:
    if math.isnan(row.low):
        return f"{row.value:.2f}"
    return f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})"


def draw(rows: Sequence[Summary], *, images: int, baseline: str, cnn: str, title: str) -> Figure:
    """Draw every measure of every model at one number of images, one panel per measure.

    Lines stand at the baseline, at the CNN, and at the ViT of the most images, where it has one.
    """
    rows = [row for row in rows if row.images == images]
    models = list(dict.fromkeys(row.model for row in rows))
    ends = {baseline: "-", cnn: "--", MUCH: ":"}
    with style.styled():
        figure = style.new_figure(width=9.5, height=1.4 + 0.24 * len(models))
        for axis, (measure, words) in zip(
            figure.subplots(1, len(MEASURES), sharey=True), MEASURES.items(), strict=True
        ):
            own = {row.model: row for row in rows if row.measure == measure}
            for model, line in ends.items():
                if model in own:
                    axis.axvline(own[model].value, color="0.6", linewidth=0.8, linestyle=line)
            for model, row in own.items():
                reach = np.nan_to_num([[row.value - row.low], [row.high - row.value]]).clip(min=0)
                colour = style.COLOURS[1 if model in ends else 0]
                axis.errorbar(row.value, models.index(model), xerr=reach, fmt="o", markersize=4,
                              linewidth=1, color=colour)  # fmt: skip
            axis.set_xlabel(words, fontsize=8)
        axis.set_yticks(range(len(models)), models)
        axis.invert_yaxis()
        figure.suptitle(f"{title}; lines at {baseline} (—), {cnn} (– –), {MUCH} (···)", fontsize=9)
    return figure
