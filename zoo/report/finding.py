"""The finding of a comparison in one paragraph, made of measured numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from zoo.claims.base import BUILT_IN, NOT_SUPPORTED, SUPPORTED, UNDECIDED, Verdict
from zoo.measures.depth import third_of
from zoo.study.axes import select
from zoo.study.results import ComparisonResults, Result

SAID = {
    SUPPORTED: "supported",
    BUILT_IN: "built in (held before training as well)",
    UNDECIDED: "undecided",
    NOT_SUPPORTED: "not supported",
}


def describe_finding(results: ComparisonResults, verdicts: Sequence[Verdict]) -> str:
    """Say what was measured: accuracy, similarity, depth, attention, reach, and the claims.

    Two models get a sentence each; of more, the ends of the range are named. What was not
    measured is not spoken of.
    """
    few = len(results.compared) <= 2
    said = [
        _two_accuracies(results) if few else _range_of_accuracy(results),
        *(_similarity(results) if few else [_range_of_similarity(results)]),
        _each(results, "cka", "mean_off_diagonal", "{:.2f} in {}",
              "Different layers of one network have a mean CKA of {}."),
        _each(results, "attention-maps", "entropy", "{:.0f} % in {}",
              "Of the entropy of even attention, attention has {}.", times=100),
        _each(results, "receptive-field", "radius90_first_block", "{:.0f} % in {}",
              "In the first block, 90 % of a unit's receptive field lies within this share of half "
              "the image's diagonal: {}.", times=100),
        _claims(verdicts),
    ]  # fmt: skip
    return " ".join(sentence for sentence in said if sentence)


def _two_accuracies(results: ComparisonResults) -> str:
    rated = _rated(results)
    if not rated:
        return ""
    (best, first), *others = sorted(rated.items(), key=lambda item: -item[1])
    said = f"{best} classifies {first:.1f} % of {results.images:,} images correctly"
    for name, value in others:
        said += f" and {name} {value:.1f} %"
        if gap := results.results["accuracy"].find("difference", best, name):
            points, low, high = (100 * end for end in (gap.value, gap.low, gap.high))
            said += f": {points:.1f} points less (95 % interval {low:.1f} to {high:.1f})"
    return said + "."


def _range_of_accuracy(results: ComparisonResults) -> str:
    rated = _rated(results)
    if len(rated) < 2:
        return ""
    low, high = min(rated, key=rated.__getitem__), max(rated, key=rated.__getitem__)
    return (
        f"Of {len(rated)} models, {high} classifies the most of {results.images:,} "
        f"images correctly ({rated[high]:.1f} %) and {low} the fewest ({rated[low]:.1f} %)."
    )


def _rated(results: ComparisonResults) -> dict[str, float]:
    """Return the accuracy of each compared network that has one, in percent."""
    return _values(results, "accuracy", "accuracy", times=100)


def _values(
    results: ComparisonResults, analysis: str, measure: str, times: float = 1
) -> dict[str, float]:
    """Return a metric of each compared network that has it."""
    if analysis not in results.results:
        return {}
    names = [network.name for network in results.compared]
    found = {name: results.results[analysis].metric(measure, name) for name in names}
    return {name: times * value for name, value in found.items() if value is not None}


def _similarity(results: ComparisonResults) -> list[str]:
    """Say how alike two models are, against the untrained ones, and where in depth."""
    if len(results.compared) < 2 or "cka" not in results.results:
        return []
    a, b = results.compared
    cka = results.results["cka"]
    mean = cka.metric("mean_all_pairs", a.name, b.name)
    if mean is None:
        return []
    said = f"Over all pairs of layers they have a mean CKA of {mean:.2f}"
    for one, other in ((a, b), (b, a)):
        initial = results.initial(one)
        before = cka.metric("mean_all_pairs", initial.name, other.name) if initial else None
        if before is not None:
            said += f"; an untrained {one.name} has {before:.2f} with {other.name}"
    return [f"{said}.", _matches(cka, a.name, b.name)]


def _matches(result: Result, a: str, b: str) -> str:
    """Say how good a match the lowest and the highest layers of one model find in the other."""
    inner = ("stem", "block")
    cka = select(result.data["cka"], a, b, role=inner, role_b=inner).values
    if min(cka.shape) < 2 or not np.isfinite(cka).all():
        return ""
    best, third = cka.max(axis=1), third_of(len(cka))
    low, high = best[:third].mean(), best[-third:].mean()
    return (
        f"The best match in {b} is {low:.2f} for the lowest third of {a}'s layers "
        f"and {high:.2f} for the highest."
    )


def _range_of_similarity(results: ComparisonResults) -> str:
    if "cka" not in results.results:
        return ""
    names = [network.name for network in results.compared]
    found = {
        f"{a} and {b}": results.results["cka"].metric("mean_all_pairs", a, b)
        for a, b in combinations(names, 2)
    }
    pairs = {pair: value for pair, value in found.items() if value is not None}
    if len(pairs) < 2:
        return ""
    low, high = min(pairs, key=pairs.__getitem__), max(pairs, key=pairs.__getitem__)
    return (
        f"Over all pairs of layers, two models have a mean CKA of {pairs[low]:.2f} ({low}) "
        f"to {pairs[high]:.2f} ({high})."
    )


def _each(
    results: ComparisonResults,
    analysis: str,
    measure: str,
    form: str,
    sentence: str,
    times: float = 1,
) -> str:
    """Name a number of each model that has it; of more than two models, the extreme ones."""
    values = _values(results, analysis, measure, times)
    if not values:
        return ""
    if len(values) <= 2:
        parts = [form.format(value, name) for name, value in values.items()]
        return sentence.format(" and ".join(parts))
    ends = sorted(values.items(), key=lambda item: item[1])
    return sentence.format(" to ".join(form.format(v, name) for name, v in (ends[0], ends[-1])))


def _claims(verdicts: Sequence[Verdict]) -> str:
    tested = [verdict.verdict for verdict in verdicts if verdict.measurement]
    if not tested:
        return ""
    tests = "1 test" if len(tested) == 1 else f"{len(tested)} tests"
    counts = [(tested.count(word), said) for word, said in SAID.items() if word in tested]
    told = ", ".join(f"{count} {said}" for count, said in counts)
    return f"Of {tests} of the papers' claims: {told}."
