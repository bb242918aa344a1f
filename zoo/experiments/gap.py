"""The gap study: what closes the gap between a ViT and a CNN that learn from few images.

Every variant is trained for the same number of steps. A seed decides a network's first weights,
the order of its images and which images are drawn; all seeds share the test images, at which no
choice looks. Learning rates are chosen by validation, with the same budget for all.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.config import GapConfig, Params, StudyConfig
from zoo.config.mapping import from_mapping
from zoo.data.build import build_subsets
from zoo.data.sources import Source
from zoo.files import code_digest, json_digest, read_json, write_json
from zoo.measures.sampling import balanced_order
from zoo.models.spec import model_digest
from zoo.processes import process_count
from zoo.training.variants import CODE, Variant, train_variant

TEST_SEED = 0
LOOK_SECONDS = 5.0  # between two looks at what other processes train


@dataclass(frozen=True)
class Run:
    """One trained variant: accuracies (0 to 1) after `steps` steps on `images` images.

    `asked` is the digest of all that decides it: a record is used again only where it is equal.
    """

    model: str
    subset: str
    seed: int
    images: int
    steps: int
    learning_rate: float
    parameters: int
    test: float
    validation: float
    seconds: float
    asked: str = ""

    @property
    def variant(self) -> Variant:
        """Return which one was trained."""
        return Variant(self.model, self.subset, self.seed)


def in_order(study: StudyConfig) -> list[Variant]:
    """Return a study's variants in the order in which they are trained: subset by subset."""
    every = product(study.subsets, study.models, study.seeds)
    return [Variant(model, subset, seed) for subset, model, seed in every]


def run_study(params: Params, gap: GapConfig, source: Source, folder: Path) -> Iterator[Run]:
    """Train every variant that is not yet trained, and yield all of them.

    Processes that run a study in one folder share its trainings: each takes the first that no other
    is at. One process alone yields them in order.

    Args:
        params: `study` gives the variants, in the order in which they are trained.
        gap: how learning rates are tuned.
        source: the images.
        folder: takes `subsets/<seed>`, `models`, `tuning` and `metrics`. A study that was killed
            continues in it. Where a model has a teacher in `models`, it is the working folder.

    Raises:
        UserError: the source has too few images, or a training diverged.
    """
    source = with_test_images(source, gap)
    left = in_order(params.study)
    while left:
        for place, variant in enumerate(left):
            # What it learns from may be in training elsewhere.
            ancestors = params.models[variant.model].ancestors().values()
            needed = {Path(variant.fill(name)).name for name in ancestors}
            if needed.isdisjoint(other.key for other in left[:place]):
                try:
                    rate = _learning_rate(params, gap, source, folder, variant.model)
                    run = _train(params, source, folder, folder, variant, rate)
                except Timeout:
                    continue
                left.remove(variant)
                yield run
                break
        else:
            time.sleep(LOOK_SECONDS)


def with_test_images(source: Source, gap: GapConfig) -> Source:
    """Return the source with the test images that all seeds share, balanced over classes."""
    chosen = source.test.take(balanced_order(source.test.labels, TEST_SEED)[: gap.test_images])
    return dataclasses.replace(source, test=chosen)


def draw_folder(params: Params, test_images: int, folder: Path, seed: int) -> Path:
    """Return where the images that a seed draws lie, and beside them the test images."""
    return folder / "subsets" / f"{json_digest(_images(params, test_images))[:12]}-{seed}"


def _images(params: Params, test_images: int) -> dict[str, Any]:
    return {"data": params.data, "subsets": params.subsets, "test": test_images}


def _learning_rate(
    params: Params, gap: GapConfig, source: Source, folder: Path, model: str
) -> float:
    """Return the recipe's rate, or the one that is best by validation; of equal ones the first."""
    leader = gap.tuned_as(model)
    if leader is None:
        return params.train_config(model).learning_rate
    variant = Variant(leader, gap.tuning_subset, gap.tuning_seed)
    tried = {
        rate: _train(params, source, folder, folder / "tuning" / f"{rate:g}", variant, rate)
        for rate in gap.learning_rates
    }
    return max(tried, key=lambda rate: tried[rate].validation)


def _train(
    params: Params, source: Source, folder: Path, to: Path, variant: Variant, rate: float
) -> Run:
    record = to / "metrics" / f"{variant.key}.json"
    entry = params.models[variant.model]
    entry = dataclasses.replace(entry, train=entry.train | {"learning_rate": rate})
    decides = _images(params, len(source.test)) | {
        role: model_digest(Path(variant.fill(model))) for role, model in entry.ancestors().items()
    }
    asked = json_digest(
        decides | {"train": params.train, "entry": entry, "code": code_digest(CODE)}
    )
    with _alone(folder / "checkpoints" / f"{variant.key}-{asked[:16]}.lock", 0):
        kept = from_mapping(Run, read_json(record), str(record)) if record.is_file() else None
        if kept and kept.asked == asked:
            return kept
        draw = draw_folder(params, len(source.test), folder, variant.seed)
        with _alone(draw.with_name(f"{draw.name}.lock"), -1):
            if not all((draw / name).is_dir() for name in (variant.subset, "test")):
                _draw_images(params, source, draw, variant.seed)
        metrics = train_variant(
            dataclasses.replace(params, models=params.models | {variant.model: entry}),
            variant,
            subsets=draw,
            folder=to / "models" / variant.key,
            checkpoints=folder / "checkpoints",
        )
        run = Run(
            model=variant.model,
            subset=variant.subset,
            seed=variant.seed,
            images=read_json(draw / variant.subset / "subset.json")["count"],
            steps=metrics["steps"],
            learning_rate=rate,
            parameters=metrics["parameters"],
            test=metrics["test"]["accuracy"],
            validation=metrics["validation"]["accuracy"],
            seconds=metrics["seconds"],
            asked=asked,
        )
        write_json(record, dataclasses.asdict(run))
        return run


def _alone(lock: Path, seconds: float) -> AbstractContextManager[Any]:
    """Hold a lock, for which to wait at most so long; negative: for ever.

    The processes of one distributed training do the same together, and take none.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock, timeout=seconds) if process_count() == 1 else nullcontext()


def _draw_images(params: Params, source: Source, folder: Path, seed: int) -> None:
    build_subsets(
        source,
        {name: params.subsets[name] for name in params.study.subsets},
        folder,
        image_size=params.data.image_size,
        validation=params.data.validation,
        seed=seed,
    )
