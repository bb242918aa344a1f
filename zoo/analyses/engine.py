"""Compare models: many analyses over many models in one pass over the images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from zoo.analyses import choose_analyses, load_analysis
from zoo.capture.hook_points import HookPoint, observe
from zoo.capture.layers import select_layers, trace
from zoo.config import Settings
from zoo.data.sampling import MIN_BATCH, even_batches
from zoo.errors import UserError
from zoo.models.files import LoadedModel
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of, model_input
from zoo.models.untrained import before_training
from zoo.progress import OnProgress, no_progress
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.networks import ComparedNetwork, Study, family_of, token_grid
from zoo.study.results import Result

# Up to so many, NumPy's matrices are small: BLAS' threads wait for each other, and for torch's,
# longer than they work.
FEW_IMAGES = 1024
Wanted = dict[HookPoint, list[Accumulator]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparisonResults:
    """What a comparison's analyses found, and what did not apply, by analysis name."""

    study: Study
    results: dict[str, Result]
    not_applicable: dict[str, str]


def compare_models(
    models: Sequence[LoadedModel],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    *,
    class_names: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    siblings: Sequence[tuple[int, LoadedModel]] = (),
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = no_progress,
) -> ComparisonResults:
    """Run analyses over models and images.

    Args:
        models: one or more, with different names; each sees the images its own way.
        images: (n, height, width, 3) uint8, n >= 4.
        labels: (n,) class indices, where known.
        class_names: names of the classes that the labels count.
        only: analyses to run, instead of all.
        skip: analyses to leave out.
        siblings: other seeds of a model, as (its index, the other seed): ceilings for similarity.
        settings: everything else that decides the numbers.
        device: where the networks run.
        on_progress: is told of every batch of images, then of every analysis.

    Raises:
        UserError: models with the same name, too few images, unknown analyses or layers.
    """
    settings = settings or Settings()
    study = _prepare(models, images, labels, class_names, siblings, settings, torch.device(device))
    few = len(images) <= FEW_IMAGES
    with threadpool_limits(1 if few else None, user_api="blas"):
        return _analyse(study, choose_analyses(only, skip), on_progress)


def _analyse(study: Study, analyses: Sequence[str], on_progress: OnProgress) -> ComparisonResults:
    running: dict[str, Accumulator] = {}
    not_applicable: dict[str, str] = {}
    for name in analyses:
        try:
            running[name] = load_analysis(name).start(study)
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    run_pass(study, list(running.values()), on_progress)
    results: dict[str, Result] = {}
    for done, (name, accumulator) in enumerate(running.items()):
        on_progress(done, len(running), "analyses")
        try:
            results[name] = accumulator.result()
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    on_progress(len(running), len(running), "analyses")
    return ComparisonResults(study, results, not_applicable)


def run_pass(
    study: Study, accumulators: Sequence[Accumulator], on_progress: OnProgress = no_progress
) -> None:
    """Show every accumulator what it asked for: each subject runs once on each image."""
    with ExitStack() as stack:
        # Not inference mode: its tensors do not count the operations that worked on them in place.
        stack.enter_context(torch.no_grad())
        for subject in study.subjects:
            stack.enter_context(eval_mode(subject.model.module))
        wanted = [_wanted(accumulators, s) for s in range(len(study.subjects))]
        for start, stop in even_batches(len(study.images), study.settings.batch_size):
            pixels = np.array(study.images[start:stop])  # a copy: torch needs it writable
            logits = tuple(
                _forward(s, subject, pixels, wanted[s]) for s, subject in enumerate(study.subjects)
            )
            labels = None if study.labels is None else study.labels[start:stop]
            for accumulator in accumulators:
                accumulator.end_batch(Batch(start, stop, pixels, labels, logits))
            on_progress(stop, len(study.images), "images")


def _wanted(accumulators: Sequence[Accumulator], s: int) -> Wanted:
    wanted: Wanted = {}
    for accumulator in accumulators:
        for tap in accumulator.hook_points(s):
            wanted.setdefault(tap, []).append(accumulator)
    return wanted


def _forward(
    s: int, subject: ComparedNetwork, pixels: NDArray[np.uint8], wanted: Wanted
) -> torch.Tensor:
    """Run a subject on a batch, and show what is seen in it to who wants it."""
    module = subject.model.module

    def on_value(tap: HookPoint, value: torch.Tensor) -> None:
        for accumulator in wanted[tap]:
            accumulator.observe(s, tap, value)

    # Watched for this subject's run only: two subjects may share modules, or be one network that
    # gets its images in two ways.
    with observe(module, wanted, on_value):
        return logits_of(module(model_input(pixels, subject.model.spec, module)))


def _prepare(
    models: Sequence[LoadedModel],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    class_names: Sequence[str],
    siblings: Sequence[tuple[int, LoadedModel]],
    settings: Settings,
    device: torch.device,
) -> Study:
    names = [model.name for model in models]
    if not names or len(set(names)) != len(names):
        raise UserError(f"expected models with different names, got {', '.join(names) or 'none'}")
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise UserError(
            f"images: expected (n, height, width, 3) uint8, got {images.shape} {images.dtype}"
        )
    if len(images) < MIN_BATCH:
        raise UserError(f"expected at least {MIN_BATCH} images, got {len(images)}")
    if labels is not None and len(labels) != len(images):
        raise UserError(f"expected {len(images)} labels, got {len(labels)}")
    if labels is not None and labels.min() < 0:
        raise UserError(f"labels: expected class indices from 0 on, got {labels.min()}")
    subjects = [subject_of(model, settings, device) for model in models]
    if settings.references:
        subjects += list(_untrained(subjects, settings, device))
        for of, sibling in siblings:
            subjects.append(subject_of(sibling, settings, device, role="seed", of=of))
        _check_references(subjects)
    shown = _choose_shown(len(images), labels, settings)
    return Study(
        tuple(subjects), images, labels, tuple(class_names), shown, settings, device
    )  # fmt: skip


def subject_of(
    model: LoadedModel, settings: Settings, device: torch.device, role: str = "model", of: int = 0
) -> ComparedNetwork:
    """Look at a model once: its layers in order, its family, and how its tokens lie."""
    module = model.module.to(device)
    size = model.spec.image_size
    found = trace(module, model_input(torch.zeros(1, 3, size, size), model.spec, module))
    name = f"{model.name} seed {model.spec.seed}" if role == "seed" else model.name
    family = family_of(found)
    if found.not_batch_first:
        logger.warning(
            "%s: %d blocks are left out: their outputs do not have the images on the first axis",
            name,
            len(found.not_batch_first),
        )
    return ComparedNetwork(
        name=name,
        model=model,
        trace=found,
        layers=select_layers(found, settings.layers),
        family=family,
        grid=token_grid(model, found) if family in ("vit", "mlp") else None,
        role=role,
        of=of,
    )


def _untrained(
    subjects: Sequence[ComparedNetwork], settings: Settings, device: torch.device
) -> Iterator[ComparedNetwork]:
    """Yield the same networks before training: the floor of every similarity."""
    for of, subject in enumerate(subjects):
        if model := before_training(subject.model):
            yield subject_of(model, settings, device, role="untrained", of=of)


def _check_references(subjects: Sequence[ComparedNetwork]) -> None:
    """Raise `UserError` where a model has the name of another one's reference."""
    models = {subject.name for subject in subjects if subject.role == "model"}
    for subject in subjects:
        if subject.role != "model" and subject.name in models:
            what = {"untrained": "before training", "seed": "of another seed"}[subject.role]
            raise UserError(
                f"{subject.name!r} is the name of {subjects[subject.of].name!r} {what} in this "
                "comparison: give that model another name, or leave the references out "
                "(Settings(references=False), --no-references)"
            )


def _choose_shown(
    count: int, labels: NDArray[np.int64] | None, settings: Settings
) -> tuple[int, ...]:
    """Choose the images that figures show: the first one of each class, in turn."""
    if labels is None:
        return tuple(range(min(count, settings.shown_images)))
    labels = np.asarray(labels)
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    rest = [i for i in range(count) if i not in set(firsts)]
    return tuple((firsts + rest)[: settings.shown_images])
