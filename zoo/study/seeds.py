"""Numbers over seeds: selections of the labelled result, in which every seed is a network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from zoo.measures.improvement import probability_of_improvement
from zoo.measures.intervals import is_one_number, mean_interval
from zoo.study.results import ComparisonResults, Metric, Network, Result

BETTER = "probability_more_accurate"


@dataclass(frozen=True)
class OverSeeds:
    """A measure of one model, or of a pair, over seeds: mean, spread and 95 % interval.

    `deviation` is the sample standard deviation, `values` the number in each seed. Of a pair there
    is the probability that a seed of the first is more accurate, which has neither. Where all seeds
    give the same number, its interval is that over images, as `mean_metric` has it.
    """

    analysis: str
    measure: str
    of: tuple[str, ...]
    mean: float
    low: float
    high: float
    deviation: float = math.nan
    values: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values: None for what there is none of."""
        fields = dataclasses.asdict(self) | {"of": list(self.of), "values": list(self.values)}
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in fields.items()
        }


def accuracy_difference(accuracy: Result, pairs: Sequence[tuple[str, str]]) -> Metric | None:
    """Return one network's accuracy minus another's: over seeds where there are several pairs.

    Args:
        accuracy: the analysis's result.
        pairs: names of the two networks, seed by seed; the compared ones first.
    """
    gap = accuracy.find("difference", *pairs[0])
    rates = [[accuracy.metric("accuracy", name) for name in pair] for pair in pairs]
    gaps = [one - other for one, other in rates if one is not None and other is not None]
    if gap is None or not len(gaps) == len(pairs) > 1 or is_one_number(gaps):
        return gap
    mean, low, high = mean_interval(np.array(gaps), gap.range).tolist()
    return dataclasses.replace(gap, value=mean, low=low, high=high)


def mean_metric(
    results: ComparisonResults, analysis: str, measure: str, networks: Sequence[Network]
) -> Metric | None:
    """Return a metric of the first of some seeds: its mean over them with its interval.

    Where it was not measured of all of them, or is the same number in each, it is that of the
    first as it is, with its interval over images.
    """
    result = results.results[analysis]
    first = result.find(measure, networks[0].name) if networks else None
    values = _values(results, analysis, measure, networks)
    if first is None or not values or is_one_number(values):
        return first
    mean, low, high = mean_interval(np.array(values), first.range).tolist()
    return dataclasses.replace(first, value=mean, low=low, high=high)


def untrained_metric(
    results: ComparisonResults, analysis: str, measure: str, network: Network
) -> Metric | None:
    """Return a metric of a compared network's seeds before training, as `mean_metric` does."""
    initial = [start for one in results.seeds(network) if (start := results.initial(one))]
    return mean_metric(results, analysis, measure, initial)


def deviation(
    results: ComparisonResults, analysis: str, measure: str, seeds: Sequence[Network]
) -> float | None:
    """Return the sample standard deviation of a metric over seeds; None without several."""
    values = _values(results, analysis, measure, seeds)
    return float(np.std(values, ddof=1)) if values else None


def over_seeds(results: ComparisonResults) -> Iterator[OverSeeds]:
    """Yield every measure of each compared network that has several seeds, then the pairs."""
    for network in results.compared:
        seeds = results.seeds(network)
        for analysis, result in results.results.items() if len(seeds) > 1 else ():
            for measure in dict.fromkeys(m.measure for m in result.metrics):
                values = _values(results, analysis, measure, seeds)
                mean = mean_metric(results, analysis, measure, seeds)
                if values and mean:
                    spread, of = float(np.std(values, ddof=1)), (network.name,)
                    ends = mean.value, mean.low, mean.high  # of a count in all seeds: an int
                    yield OverSeeds(analysis, measure, of, *ends, spread, values)
    for a, b in combinations(results.compared, 2):
        if (found := more_accurate(results, a, b)) is not None:
            yield OverSeeds("accuracy", BETTER, (a.name, b.name), *found)


def more_accurate(
    results: ComparisonResults, a: Network, b: Network
) -> tuple[float, float, float] | None:
    """Return the probability that a seed of the first is more accurate than one of the second.

    None unless both have two or more seeds whose accuracy is known.
    """
    if "accuracy" not in results.results:
        return None
    first, second = (_values(results, "accuracy", "accuracy", results.seeds(n)) for n in (a, b))
    return probability_of_improvement(first, second) if first and second else None


def _values(
    results: ComparisonResults, analysis: str, measure: str, seeds: Sequence[Network]
) -> tuple[float, ...]:
    """Return a metric in each of two or more seeds; nothing unless all of them have it."""
    found = [results.results[analysis].metric(measure, network.name) for network in seeds]
    known = tuple(value for value in found if value is not None)
    return known if len(known) == len(seeds) > 1 else ()
