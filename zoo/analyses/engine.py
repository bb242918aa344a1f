"""Compare models: many analyses over many networks in one pass over the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from zoo.analyses import choose_analyses, load_analysis, measured_costs
from zoo.analyses.about import About
from zoo.config import Settings
from zoo.measures.intervals import in_range
from zoo.models.files import LoadedModel
from zoo.processes import gathered, process_count, process_index
from zoo.progress import OnProgress, no_progress
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.networks import Study
from zoo.study.one_pass import run_pass
from zoo.study.prepare import prepare_study
from zoo.study.results import ComparisonResults, Result

# Below this, BLAS threads contend more than they compute.
FEW_IMAGES = 1024


def compare_models(
    models: Sequence[LoadedModel],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    *,
    class_names: Sequence[str] = (),
    only: Sequence[str] = (),
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
        siblings: other seeds of a model, as (its index, the other seed), as seed baselines.
        settings: everything else that decides the numbers.
        device: where the networks run.
        on_progress: is called for every batch of images, then of every analysis.

    Raises:
        UserError: models with the same name, too few images, unknown analyses or layers.
    """
    settings = settings or Settings()
    study = prepare_study(models, images, labels, class_names, siblings, settings, device)
    return analyse(study, choose_analyses(only), on_progress)


def analyse(
    study: Study,
    analyses: Sequence[str],
    on_progress: OnProgress = no_progress,
    *,
    together: bool = False,
) -> ComparisonResults:
    """Run analyses over a prepared study; arguments as in `compare_models`.

    With `together`, the processes of this job share the analyses: all of them must call this, and
    each gets the whole, bit for bit what one process finds.
    """
    few = len(study.images) <= FEW_IMAGES
    own = shares(analyses, process_count())[process_index()] if together else analyses
    with threadpool_limits(1 if few else None, user_api="blas"):
        found = _analyse(study, own, on_progress)
    if not together:
        return found
    parts = gathered((found.results, found.not_applicable))
    results = {name: result for part, _ in parts for name, result in part.items()}
    not_applicable = {name: why for _, part in parts for name, why in part.items()}
    return replace(
        found,
        results={name: results[name] for name in analyses if name in results},
        not_applicable={name: not_applicable[name] for name in analyses if name in not_applicable},
    )


def shares(analyses: Sequence[str], processes: int) -> list[list[str]]:
    """Divide analyses among processes so that each works about as long, by measured costs.

    >>> shares(["accuracy", "cka", "robustness"], 2)
    [['robustness'], ['cka', 'accuracy']]
    """
    costs = {name: cost for name, (cost, _) in measured_costs().items()}
    divided: list[list[str]] = [[] for _ in range(processes)]
    for name in sorted(analyses, key=costs.__getitem__, reverse=True):
        min(divided, key=lambda part: sum(costs[own] for own in part)).append(name)
    return divided


def _analyse(study: Study, analyses: Sequence[str], on_progress: OnProgress) -> ComparisonResults:
    running: dict[str, Accumulator] = {}
    not_applicable: dict[str, str] = {}
    for name in analyses:
        try:
            running[name] = load_analysis(name).start(study)
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    if running:  # one of many processes may have nothing to do
        run_pass(study, list(running.values()), on_progress)
    results: dict[str, Result] = {}
    for done, (name, accumulator) in enumerate(running.items()):
        on_progress(done, len(running), "analyses")
        accumulator.on_progress = on_progress
        try:
            results[name] = result_of(accumulator, load_analysis(name).ABOUT)
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    on_progress(len(running), len(running), "analyses")
    return ComparisonResults(
        tuple(network.describe() for network in study.networks),
        results,
        not_applicable,
        len(study.images),
        study.class_names,
        study.shown,
    )


def result_of(accumulator: Accumulator, about: About) -> Result:
    """Return what an analysis found: its metrics with their units, without those not finite.

    Their intervals do not reach beyond what the unit allows.
    """
    result = accumulator.result()
    finite = [m for m in result.metrics if math.isfinite(m.value)]
    metrics = [replace(m, unit=about.units.get(m.measure, "")) for m in finite]
    ends = [in_range((m.value, m.low, m.high), m.range).tolist() for m in metrics]
    cut = [replace(m, low=of[1], high=of[2]) for m, of in zip(metrics, ends, strict=True)]
    return replace(result, metrics=tuple(cut))
