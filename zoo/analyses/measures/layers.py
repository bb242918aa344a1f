"""One measure applied to the layers of two models: all pairs, or each layer with its own like."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.analyses.measures.features import DegenerateError, Measure

Prepared = list[tuple[Any, str]]  # what a measure compares, or why there is nothing to compare
Problem = tuple[int | None, int | None, str]  # a layer of a, a layer of b, and what is wrong


def compare_layers(
    measure: Measure, a: list[NDArray], b: list[NDArray], *, seed: int = 0
) -> tuple[NDArray[np.float64], float, list[Problem]]:
    """Apply a measure to all pairs of two models' layers.

    Args:
        measure: one of `MEASURES`.
        a: features (n, d) of each layer of the first model.
        b: features of each layer of the second, for the same images.
        seed: of the permutation that gives the floor.

    Returns:
        The similarities (layers of a, layers of b), NaN where degenerate; the mean over layers
        of a of what their best match falls to when b's images are shuffled (NaN where there is
        none); and the degenerate layers or pairs of layers, with the reason.
    """
    first = _prepare(measure, a)
    values = np.full((len(a), len(b)), np.nan)
    problems: list[Problem] = [(i, None, why) for i, (_, why) in enumerate(first) if why]
    for j, features in enumerate(b):
        ((other, broken),) = _prepare(measure, [features])
        if broken:
            problems.append((None, j, broken))
            continue
        for i, (own, wrong) in enumerate(first):
            if not wrong:
                values[i, j], why = _attempt(measure.compare, own, other)
                problems += [(i, j, why)] if why else []
    return values, _floor(measure, first, b, values, seed), problems


def _floor(
    measure: Measure, first: Prepared, b: list[NDArray], values: NDArray[np.float64], seed: int
) -> float:
    rows = [i for i in range(len(first)) if np.isfinite(values[i]).any()]
    if not rows:
        return math.nan
    order = np.random.default_rng(seed).permutation(len(b[0]))
    matches = {i: int(np.nanargmax(values[i])) for i in rows}
    shuffled = {j: measure.prepare(b[j][order].astype(np.float64)) for j in set(matches.values())}
    return float(np.mean([measure.compare(first[i][0], shuffled[j]) for i, j in matches.items()]))


def compare_same_layers(
    measure: Measure, a: list[NDArray], b: list[NDArray]
) -> tuple[float, list[Problem]]:
    """Apply a measure to each layer of a model and the same layer of another, as `compare_layers`.

    Returns:
        The mean over layers, NaN where none could be measured, and the problems.
    """
    values: list[float] = []
    problems: list[Problem] = []
    sides = zip(_prepare(measure, a), _prepare(measure, b), strict=True)
    for i, ((own, wrong), (other, broken)) in enumerate(sides):
        problems += [(i, None, wrong)] if wrong else []
        problems += [(None, i, broken)] if broken else []
        if not wrong and not broken:
            value, why = _attempt(measure.compare, own, other)
            problems += [(i, i, why)] if why else []
            values += [] if why else [value]
    return float(np.mean(values)) if values else math.nan, problems


def _prepare(measure: Measure, layers: list[NDArray]) -> Prepared:
    return [_attempt(measure.prepare, layer.astype(np.float64)) for layer in layers]


def _attempt(function: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    try:
        return function(*args), ""
    except DegenerateError as error:
        return math.nan, str(error)
