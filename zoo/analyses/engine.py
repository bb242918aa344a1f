"""Compare models: many analyses over many networks in one pass over the images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from zoo.analyses import choose_analyses, load_analysis, measured_costs
from zoo.analyses.about import About
from zoo.analyses.image_sets import Images, with_image_sets
from zoo.config import Settings
from zoo.measures.intervals import in_range
from zoo.models.files import LoadedModel
from zoo.processes import gathered, process_count, process_index
from zoo.progress import OnProgress, no_progress
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.axes import labelled
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
    others: Images | None = None,
) -> ComparisonResults:
    """Run analyses over a prepared study; arguments as in `compare_models`.

    With `together`, the processes of this job share the images of the common pass, and then the
    analyses: all of them must call this, and each gets the whole. It differs from what one process
    finds by the rounding of sums alone. `others` are further sets of images, by name: the maps of
    similarity are measured on them too.
    """
    few = len(study.images) <= FEW_IMAGES
    processes = process_count() if together else 1
    with threadpool_limits(1 if few else None, user_api="blas"):
        running, not_applicable = _start(study, analyses)
        part = (process_index(), processes) if together else (0, 1)
        run_pass(study, list(running.values()), on_progress, part=part)
        own = _merge(running, processes) if processes > 1 else running
        results = _finish(own, not_applicable, on_progress)
    if processes > 1:
        parts = gathered((results, not_applicable))
        found = {name: result for these, _ in parts for name, result in these.items()}
        results = {name: found[name] for name in analyses if name in found}
        reasons = {name: why for _, these in parts for name, why in these.items()}
        not_applicable = {name: reasons[name] for name in analyses if name in reasons}
    if others:
        results = with_image_sets(study, results, others, on_progress)
    networks = tuple(network.describe() for network in study.networks)
    for name, result in results.items():
        of_each = tuple(replace(of, data=labelled(of.data, networks)) for of in result.parts)
        results[name] = replace(result, data=labelled(result.data, networks), parts=of_each)
    return ComparisonResults(
        networks,
        results,
        not_applicable,
        len(study.images),
        study.class_names,
        study.shown,
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


def _start(study: Study, analyses: Sequence[str]) -> tuple[dict[str, Accumulator], dict[str, str]]:
    """Begin analyses; return them, and why the others do not apply."""
    running: dict[str, Accumulator] = {}
    not_applicable: dict[str, str] = {}
    for name in analyses:
        try:
            running[name] = load_analysis(name).start(study)
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    return running, not_applicable


def _merge(running: Mapping[str, Accumulator], processes: int) -> dict[str, Accumulator]:
    """Give this process's share of the analyses what all processes have gathered for them."""
    own: dict[str, Accumulator] = {}
    for owner, names in enumerate(shares(list(running), processes)):
        for name in names:
            if states := gathered(running[name].state(), only=owner):
                running[name].take(states)
                own[name] = running[name]
    return own


def _finish(
    running: Mapping[str, Accumulator], not_applicable: dict[str, str], on_progress: OnProgress
) -> dict[str, Result]:
    """Return the results; what turns out not to apply is added to `not_applicable`."""
    results: dict[str, Result] = {}
    for done, (name, accumulator) in enumerate(running.items()):
        on_progress(done, len(running), "analyses")
        accumulator.on_progress = on_progress
        try:
            results[name] = result_of(accumulator, load_analysis(name).ABOUT)
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    on_progress(len(running), len(running), "analyses")
    return results


def result_of(accumulator: Accumulator, about: About) -> Result:
    """Return what an analysis found: its metrics with their units, without those not finite.

    Their intervals do not reach beyond what the unit allows.
    """
    result = accumulator.result()
    finite = [m for m in result.metrics if math.isfinite(m.value)]
    metrics = [replace(m, unit=about.unit_of(m.measure)) for m in finite]
    ends = [in_range((m.value, m.low, m.high), m.range).tolist() for m in metrics]
    cut = [replace(m, low=of[1], high=of[2]) for m, of in zip(metrics, ends, strict=True)]
    return replace(result, metrics=tuple(cut))
