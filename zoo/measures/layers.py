"""Measures applied to the layers of two models: all pairs, or each layer with its counterpart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.measures.features import DegenerateError, Measure, Prepare
from zoo.measures.intervals import mean_defined
from zoo.measures.permutation import (
    PERMUTATIONS,
    best_matches,
    permutation_p,
)
from zoo.measures.threads import in_threads

Prepared = list[tuple[Any, str]]  # what a measure compares, or why there is nothing to compare
Problem = tuple[int | None, int | None, str]  # a layer of a, a layer of b, and what is wrong


@dataclass
class LayerSimilarities:
    """One measure between the layers of two models.

    `values` is (layers of a, layers of b) and `interval` (2, layers of a, layers of b): the ends
    of the 95 % interval. Both are NaN where there is none. `permuted` is the permutation baseline:
    the mean over a's layers of their best match when b's images are permuted, all its layers alike,
    and the match is taken again; the mean of 200 permutations, or one where they are not of the
    whole measure (`Measure.permute`). `p` are the p-values of the mean best match of a's layers in
    b and of b's in a under 200 permutations. `problems` name the layers, or pairs of layers, that
    are degenerate.
    """

    values: NDArray[np.float64]
    interval: NDArray[np.float64]
    permuted: float = math.nan
    p: tuple[float, float] = (math.nan, math.nan)
    problems: list[Problem] = field(default_factory=list)


def compare_layers(
    measures: Sequence[Measure], a: list[NDArray], b: list[NDArray], *, seed: int = 0
) -> dict[str, LayerSimilarities]:
    """Apply measures to all pairs of two models' layers.

    Args:
        measures: some of `MEASURES`; those that prepare features alike share that work.
        a: features (n, d) of each layer of the first model.
        b: features of each layer of the second, for the same images.
        seed: of the permutations that give the baseline.

    Returns:
        What each measure found, by its name.
    """
    found: dict[str, LayerSimilarities] = {}
    for prepare in dict.fromkeys(measure.prepare for measure in measures):
        alike = [measure for measure in measures if measure.prepare == prepare]
        found |= _compare_alike(prepare, alike, a, b, seed)
    return {measure.name: found[measure.name] for measure in measures}


def _compare_alike(
    prepare: Prepare, measures: list[Measure], a: list[NDArray], b: list[NDArray], seed: int
) -> dict[str, LayerSimilarities]:
    first = _prepare(prepare, a)
    usable = {i: own for i, (own, wrong) in enumerate(first) if not wrong}
    found = {measure.name: _empty(first, len(b)) for measure in measures}
    permuted = {measure.name: np.full((len(a), len(b)), np.nan) for measure in measures}
    reduced: dict[str, dict[int, Any]] = {measure.name: {} for measure in measures}
    random = np.random.default_rng(seed)
    images = np.arange(len(b[0]))
    orders = np.stack([images] + [random.permutation(images) for _ in range(PERMUTATIONS)])

    def compare_with(j: int) -> dict[str, list[Problem]]:
        """Fill the column of a layer of b, of which much is prepared; return its problems."""
        ((other, broken),) = _prepare(prepare, [b[j]])
        if broken:
            return {measure.name: [(None, j, broken)] for measure in measures}
        problems: dict[str, list[Problem]] = {measure.name: [] for measure in measures}
        for measure in measures:
            reduced[measure.name][j] = measure.reduce(other)
            turned = measure.permute(other, orders[1]) if measure.permute else None
            for i, own in usable.items():
                if measure.permute:
                    permuted[measure.name][i, j], _ = _attempt(measure.compare, own, turned)
                problems[measure.name] += _fill_cell(
                    found[measure.name], measure, own, other, (i, j)
                )
        return problems

    for problems in in_threads(compare_with, range(len(b))):
        for name, those in problems.items():
            found[name].problems += those
    for measure in measures:
        same, columns = found[measure.name], dict(sorted(reduced.pop(measure.name).items()))
        null = np.full((len(orders), len(a), len(b)), np.nan)
        if usable and columns:
            sides = [measure.reduce(own) for own in usable.values()], [*columns.values()]
            null[:, np.array([*usable])[:, None], [*columns]] = measure.permuted(*sides, orders)
        null = np.where(np.isfinite(same.values), null, np.nan)
        means = [_mean_best_matches(null), _mean_best_matches(null.transpose(0, 2, 1))]
        in_b, in_a = (float(permutation_p(mean[0], mean[1:])) for mean in means)
        same.p = in_b, in_a
        once = _mean_best_matches(permuted[measure.name][None])
        same.permuted = mean_defined(once if measure.permute else means[0][1:])
    return found


def _mean_best_matches(similarities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over layers of their best matches, of each of (orders, p, q)."""
    return np.array([mean_defined(best_matches(one)) for one in similarities])


def _empty(first: Prepared, columns: int) -> LayerSimilarities:
    return LayerSimilarities(
        np.full((len(first), columns), np.nan),
        np.full((2, len(first), columns), np.nan),
        problems=[(i, None, why) for i, (_, why) in enumerate(first) if why],
    )


def _fill_cell(
    found: LayerSimilarities, measure: Measure, a: Any, b: Any, cell: tuple[int, int]
) -> list[Problem]:
    value, why = _attempt(measure.compare, a, b)
    if why:
        return [(*cell, why)]
    found.values[cell] = value
    ends, why = _attempt(measure.interval_of, value, a, b)
    found.interval[:, *cell] = ends
    return [(*cell, f"no interval: {why}")] if why else []


def compare_same_layers(
    measure: Measure, a: list[NDArray], b: list[NDArray]
) -> tuple[float, list[Problem]]:
    """Apply a measure to each layer of a model and the same layer of another.

    Returns:
        The mean over layers, NaN where none could be measured, and the problems.
    """
    values: list[float] = []
    problems: list[Problem] = []
    sides = zip(_prepare(measure.prepare, a), _prepare(measure.prepare, b), strict=True)
    for i, ((own, wrong), (other, broken)) in enumerate(sides):
        problems += [(i, None, wrong)] if wrong else []
        problems += [(None, i, broken)] if broken else []
        if not wrong and not broken:
            value, why = _attempt(measure.compare, own, other)
            problems += [(i, i, why)] if why else []
            values += [] if why else [value]
    return float(np.mean(values)) if values else math.nan, problems


def _prepare(prepare: Prepare, layers: list[NDArray]) -> Prepared:
    return in_threads(lambda layer: _attempt(prepare, layer.astype(np.float64)), layers)


def _attempt(function: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    try:
        return function(*args), ""
    except DegenerateError as error:
        return math.nan, str(error)
