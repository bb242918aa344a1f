"""A second set of images: the maps of similarity on it, and how far they agree with the first's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.analyses import load_analysis
from zoo.analyses.agreement import OTHER, agreement
from zoo.errors import UserError
from zoo.measures.sampling import MIN_BATCH
from zoo.measures.table import MEASURES
from zoo.progress import OnProgress, no_progress
from zoo.study.networks import Study
from zoo.study.one_pass import run_pass
from zoo.study.results import Result

if TYPE_CHECKING:
    import xarray as xr

MAPS = {"cka": ("cka", "cka_deconfounded"), "similarity": tuple(MEASURES)}  # by analysis
Images = Mapping[str, NDArray[np.uint8]]


def with_image_sets(
    study: Study,
    results: Mapping[str, Result],
    others: Images,
    on_progress: OnProgress = no_progress,
) -> dict[str, Result]:
    """Return results whose maps of similarity stand beside those of other images.

    Args:
        study: what was measured; its compared networks see the other images too.
        results: of its analyses, by name.
        others: sets of images (n, height, width, 3) uint8 by name, n >= 4.
        on_progress: is called for every batch of images.

    Returns:
        The results; those of `MAPS` with each map on the other sets (`<map>_other`, along
        `image_set`), metrics of the agreement, and a note a pair and set.

    Raises:
        UserError: a set is too small or no images.
    """
    found = dict(results)
    for name, images in others.items():
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise UserError(
                f"{name}: expected (n, height, width, 3) uint8, got {images.shape} {images.dtype}"
            )
        if len(images) < MIN_BATCH:
            raise UserError(f"{name}: expected at least {MIN_BATCH} images, got {len(images)}")
    measured = [analysis for analysis in MAPS if analysis in results]
    seen: dict[str, list[xr.Dataset]] = {analysis: [] for analysis in measured}
    for images in others.values():
        other = dataclasses.replace(
            study, networks=study.compared, images=images, labels=None, shown=()
        )
        running = {name: load_analysis(name).start(other) for name in measured}
        run_pass(other, list(running.values()), on_progress)
        for name, accumulator in running.items():
            seen[name].append(accumulator.result().data)
    for name in measured:
        found[name] = _beside(results[name], MAPS[name], dict(zip(others, seen[name], strict=True)))
    return found


def _beside(result: Result, measures: Sequence[str], others: Mapping[str, xr.Dataset]) -> Result:
    """Return a result with the maps of other sets, and how far they agree."""
    data, dims = result.data, ("image_set", "layer", "layer_b")
    rows = list(zip(data["network"].values, data["name"].values, strict=True))
    variables: dict[str, Any] = {}
    for measure in measures:
        maps = np.full((len(others), len(rows), len(rows)), np.nan)
        for k, other in enumerate(others.values()):
            own = zip(other["network"].values, other["name"].values, strict=True)
            at = [rows.index(row) for row in own]
            maps[k][np.ix_(at, at)] = other[measure].values
        variables[measure + OTHER] = (dims, maps, data[measure].attrs)
    names = np.array(list(others), dtype=object)
    compared = tuple(dict.fromkeys(next(iter(others.values()))["network"].values))
    metrics, notes = list(result.metrics), list(result.notes)
    for a, b in combinations(compared, 2):
        for measure in measures:
            each = {name: agreement(data, other, measure, a, b) for name, other in others.items()}
            least = min(each, key=lambda name: each[name].correlation[0])
            metrics += [m for m in each[least].metrics(measure, a, b) if math.isfinite(m.value)]
            if measure in ("cka", "cka_deconfounded"):
                notes += [of.describe(measure, name, a, b) for name, of in each.items()]
    data = data.assign(variables).assign_coords(image_set=names)
    return dataclasses.replace(result, data=data, metrics=tuple(metrics), notes=tuple(notes))
