"""Compare registered models: find the earlier result, or compute and log a new one."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Run

from zoo.analyses import choose_analyses
from zoo.comparison import FILES, FOLDER, REPORT, redraw
from zoo.config import Settings
from zoo.data.pictures import EvaluationImages
from zoo.data.trained_on import SUBSETS, shared_with_training
from zoo.device import parse_device
from zoo.errors import UserError
from zoo.files import read_json
from zoo.files.folders import check_replaceable
from zoo.models.spec import SPEC, read_spec
from zoo.processes import process_index, summed
from zoo.progress import OnProgress, no_progress
from zoo.registry.audits import failed_measures
from zoo.registry.comparisons import (
    LOOKS,
    fetch_comparison,
    find_comparison,
    log_comparison,
    update_comparison,
)
from zoo.registry.images import evaluation_images
from zoo.registry.lookup import find_by_digest
from zoo.registry.references import Resolved
from zoo.registry.resolve import load_resolved
from zoo.registry.seeds import other_seeds
from zoo.registry.store import Store
from zoo.study.identity import comparison_digest, looks

if TYPE_CHECKING:
    from zoo.comparison import Comparison
    from zoo.models.files import LoadedModel


PASSES = "passes"  # folder of the cache: what passes recorded of networks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """A comparison in its folder and in MLflow; `found` if nothing had to be computed."""

    report: dict[str, Any]
    folder: Path
    run: Run
    found: bool


def compare_registered(
    store: Store,
    models: Sequence[Resolved],
    folder: Path,
    *,
    data: Path | None = None,
    others: Sequence[Path] = (),
    count: int | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    settings: Settings | None = None,
    siblings: Sequence[tuple[int, Resolved]] | None = None,
    device: str = "",
    force: bool = False,
    command: str = "",
    on_progress: OnProgress = no_progress,
) -> Compared:
    """Compare models from the registry, or find an earlier result.

    Several processes share the analyses; only the first writes and logs.

    Args:
        store: holds models, images and the comparison.
        models: two or more.
        folder: receives report.html, report.json, figures/ and results.nc.
        data: a folder to take images from, a subset's or one of pictures, instead of those that
            are stored with the models.
        others: folders of further images, on which similarity is measured too.
        count: how many images of each folder; all of them by default.
        only: analyses to run instead of all.
        skip: analyses to leave out.
        settings: everything else that decides the numbers.
        siblings: other seeds of the models, each with the index of its model; by default all
            seeds registered for models given by name alone, so the numbers depend on what else
            is registered.
        device: where the networks run; by default a GPU if there is one.
        force: compute again, without what earlier passes recorded.
        command: the command, shown in the report.
        on_progress: called with the progress of each of `zoo.comparison.PARTS`.

    Raises:
        UserError: no images to compare on, too few of them, a damaged model, or a `folder` that
            zoo did not write.
    """
    check_replaceable(folder, FOLDER)
    settings = settings or Settings()
    if not settings.references:
        siblings = ()
    elif siblings is None:
        siblings = other_seeds(store, models, own_images=data is None)
    question = _Question(
        store,
        models,
        unique_names(store, models),
        siblings,
        evaluation_images(store, models, data, count).first(count),
        _image_sets(store, others, count),
        choose_analyses(only, skip),
        settings,
        parse_device(device),
        force,
        command,
    )
    digest = question.digest
    first = process_index() == 0
    # A second process with the same question waits here, and then finds the answer.
    with store.lock(f"comparing-{digest[:16]}") if first else nullcontext():
        found = _find(store, digest, folder, models) if first and not force else None
        if not any(summed([found is not None])):
            began = time.monotonic()
            comparison = question.answer(on_progress)
            if first:
                found = _keep(store, comparison, folder, models, force, began, on_progress)
    summed([0])  # until the first has logged it
    if found is None and (found := _find(store, digest, folder, models)) is None:
        raise UserError("the first process made this comparison, but the registry does not have it")
    return found


@dataclass(frozen=True)
class _Question:
    """What is compared: models with their names in the report, images and analyses."""

    store: Store
    models: Sequence[Resolved]
    names: Sequence[str]
    siblings: Sequence[tuple[int, Resolved]]
    images: EvaluationImages
    sets: Mapping[str, EvaluationImages]
    analyses: Sequence[str]
    settings: Settings
    device: str
    force: bool
    command: str

    @cached_property
    def digest(self) -> str:
        """The identity of its numbers."""
        return comparison_digest(
            [(name, identity(m)) for name, m in zip(self.names, self.models, strict=True)],
            "+".join([self.images.digest, *(of.digest for of in self.sets.values())]),
            self.analyses,
            self.settings,
            [model.digest for _, model in self.siblings],
            device=self.device,
        )

    def answer(self, on_progress: OnProgress) -> Comparison:
        """Load the models and compare them."""
        from zoo.analyses.engine import analyse
        from zoo.comparison import Comparison
        from zoo.study.identity import conditions, provenance
        from zoo.study.prepare import prepare_study
        from zoo.study.recorded import Recorded

        recorded = Recorded(
            self.store.cache / PASSES, conditions(self.device), replay=not self.force
        )
        loaded = [
            load_resolved(self.store, model, name=name)
            for model, name in zip(self.models, self.names, strict=True)
        ]
        images = self.images.numbered_as([model.spec.class_names for model in loaded])
        study = prepare_study(
            loaded,
            images.images,
            images.labels,
            images.class_names,
            [(i, load_resolved(self.store, m, name=self.names[i])) for i, m in self.siblings],
            self.settings,
            self.device,
            recorded,
        )
        others = {name: of.images for name, of in self.sets.items()}
        results = analyse(study, self.analyses, on_progress, together=True, others=others)
        recorded.trim()
        known = provenance(
            loaded,
            study,
            digest=self.digest,
            images_digest=images.digest,
            source=images.source,
            split=images.split,
            command=self.command,
        )
        known["other_images"] = [
            {"name": name, "count": len(of), "digest": of.digest, "source": of.source}
            for name, of in self.sets.items()
        ]
        known["audit"] = failed_measures(self.store, self.models)
        known["trained_on"] = self._trained_on(loaded, images)
        return Comparison(dataclasses.replace(results, provenance=known))

    def _trained_on(
        self, models: Sequence[LoadedModel], images: EvaluationImages
    ) -> dict[str, int]:
        """Return how many of the images each model was trained on, without those with none."""
        if images.split == "test":  # such as those stored with the models
            return {}
        known = {model.name: model.spec.subset_digest for model in models}
        return shared_with_training(images.originals, known, self.store.root / SUBSETS)


def restore_comparisons(store: Store, root: Path) -> list[str]:
    """Log each comparison in a folder of `root` that the registry lacks; return their names.

    So an emptied registry gets its comparisons back, as it gets its models. A comparison of models
    that are no longer registered is left out, with a warning.
    """
    restored = []
    for folder in sorted(path.parent for path in root.glob(f"*/{REPORT}")):
        report = read_json(folder / REPORT)
        try:
            if find_comparison(store, report["digest"]):
                continue
            models = [find_by_digest(store, m["name"], m["digest"]) for m in report["models"]]
        except UserError as error:
            logger.warning("%s is not logged again: %s", folder, error)
            continue
        except (KeyError, TypeError):
            logger.warning("%s is not logged again: %s was not written by zoo", folder, REPORT)
            continue
        log_comparison(store, folder, report, models)
        restored.append(folder.name)
    return restored


def unique_names(store: Store | None, models: Sequence[Resolved]) -> list[str]:
    """Name each model as the study does; where two share a name, add version, seed or digest."""
    if len({model.digest or model.uri for model in models}) < len(models):
        raise UserError(f"expected different models, got {', '.join(m.reference for m in models)}")
    names = called = [store.own_name(m.name) if store else m.name for m in models]
    for tell_apart in (_with_origin, lambda name, model: f"{name} {model.digest[:6]}"):
        shared = Counter(names)
        names = [
            name if shared[name] == 1 else tell_apart(own, model)
            for name, own, model in zip(names, called, models, strict=True)
        ]
    return names


def _with_origin(name: str, model: Resolved) -> str:
    if model.version is not None:
        return f"{name} v{model.version}"
    seed: int | str | None = model.tags.get("zoo.seed")
    if model.folder is not None:
        seed = read_spec(model.folder / SPEC).known_seed
    return name if seed is None else f"{name} seed {seed}"


def identity(model: Resolved) -> str:
    """Return what identifies a model in a comparison's digest."""
    if model.digest:
        return model.digest
    if model.kind == "hf":
        from zoo.models.huggingface import hf_identity

        return hf_identity(model.label)
    from zoo.models.pretrained import timm_identity

    return timm_identity(model.name)


def _image_sets(
    store: Store, folders: Sequence[Path], count: int | None
) -> dict[str, EvaluationImages]:
    """Return further images by the names of their folders, numbered where they share one."""
    found: dict[str, EvaluationImages] = {}
    for number, folder in enumerate(folders, start=2):
        name = folder.resolve().name
        name = f"{name} {number}" if name in found else name
        found[name] = evaluation_images(store, [], folder, count).first(count)
    return found


def _find(store: Store, digest: str, folder: Path, models: Sequence[Resolved]) -> Compared | None:
    with _writing(store, folder):
        whole = all((folder / name).is_file() for name in FILES)
        report = read_json(folder / REPORT) if whole else None
        if report is not None and report.get("digest") != digest:
            report = None
        run = find_comparison(store, digest)
        if run is None:
            if report is None:
                return None
            # Computed while the store was unreachable, or for another store: only log it.
            run = log_comparison(store, folder, report, models)
        if report is None:
            report = fetch_comparison(store, run, folder)
        if report.get("looks") != looks():
            report = redraw(folder)
        if run.data.tags.get(LOOKS) != looks():
            try:
                update_comparison(store, run, folder, report, models)
            except UserError as error:
                logger.warning("the run %s keeps its older page: %s", run.info.run_id, error)
        return Compared(report, folder, run, found=True)


def _writing(store: Store, folder: Path) -> AbstractContextManager[None]:
    """Keep other comparisons out of a folder."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return store.lock(f"folder-{name[:16]}")


def _keep(
    store: Store,
    comparison: Comparison,
    folder: Path,
    models: Sequence[Resolved],
    force: bool,
    began: float,
    on_progress: OnProgress,
) -> Compared:
    with _writing(store, folder):
        report = comparison.save(folder, on_progress)
        try:
            seconds = time.monotonic() - began
            run = log_comparison(store, folder, report, models, force=force, seconds=seconds)
        except UserError as error:
            raise UserError(
                f"the comparison is complete in {folder}, but could not be logged: {error}; "
                "the same command, without --force, logs it later without computing it again"
            ) from None
    return Compared(report, folder, run, found=False)
