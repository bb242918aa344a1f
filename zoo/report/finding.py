"""The finding of a comparison in one paragraph, made of measured numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from zoo.analyses.same_layer_cka import third_of
from zoo.study.networks import ComparedNetwork
from zoo.study.results import pair_name

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults
    from zoo.claims import Verdict

Metrics = Mapping[str, float]


def describe_finding(findings: ComparisonResults, verdicts: Sequence[Verdict]) -> str:
    """Say what was measured: accuracy, likeness, depth, attention, reach, and the claims.

    Two models get a sentence each; of more, the ends of the range are named. What was not
    measured is not spoken of.
    """
    metrics = {k: v for result in findings.results.values() for k, v in result.metrics.items()}
    models = findings.study.models
    few = len(models) <= 2
    said = [
        _two_accuracies(findings, metrics) if few else _range_of_accuracy(findings, metrics),
        *(_likeness(findings, metrics) if few else [_range_of_likeness(findings, metrics)]),
        _each(models, metrics, "cka/{}/off_diagonal_mean", "{:.2f} in {}",
              "Different layers of one network have a mean CKA of {}."),
        _each(models, metrics, "attention-maps/{}/entropy", "{:.0f} % in {}",
              "Of the entropy of even attention, attention has {}.", times=100),
        _each(models, metrics, "receptive-field/{}/radius90_first_block", "{:.0f} % in {}",
              "In the first block, 90 % of a unit's receptive field lies within this share of half "
              "the image's diagonal: {}.", times=100),
        _claims(verdicts),
    ]  # fmt: skip
    return " ".join(sentence for sentence in said if sentence)


def _two_accuracies(findings: ComparisonResults, metrics: Metrics) -> str:
    rated = _rated(findings, metrics)
    if not rated:
        return ""
    n = len(findings.study.images)
    (best, first), *others = sorted(rated.items(), key=lambda item: -item[1])
    said = f"{best} classifies {first:.1f} % of {n:,} images correctly"
    for name, value in others:
        said += f" and {name} {value:.1f} %"
        arrays = findings.results["accuracy"].arrays
        pairs = [f"difference/{pair_name(a, b)}" for a, b in ((best, name), (name, best))]
        ends = next((arrays[pair] for pair in pairs if pair in arrays), None)
        if ends is not None:
            sign = -1 if pairs[0] not in arrays else 1
            gap, *interval = (100 * sign * end for end in ends.values)
            low, high = sorted(interval)
            said += f": {gap:.1f} points less (95 % interval {low:.1f} to {high:.1f})"
    return said + "."


def _range_of_accuracy(findings: ComparisonResults, metrics: Metrics) -> str:
    rated = _rated(findings, metrics)
    if len(rated) < 2:
        return ""
    low, high = min(rated, key=rated.__getitem__), max(rated, key=rated.__getitem__)
    return (
        f"Of {len(rated)} models, {high} classifies the most of {len(findings.study.images):,} "
        f"images correctly ({rated[high]:.1f} %) and {low} the fewest ({rated[low]:.1f} %)."
    )


def _rated(findings: ComparisonResults, metrics: Metrics) -> dict[str, float]:
    """Return the accuracy of each model that has one, in percent."""
    names = [model.name for model in findings.study.models]
    return {n: 100 * metrics[f"accuracy/{n}"] for n in names if f"accuracy/{n}" in metrics}


def _likeness(findings: ComparisonResults, metrics: Metrics) -> list[str]:
    """Say how alike two models are, against the untrained ones, and where in depth."""
    if len(findings.study.models) < 2:
        return []
    a, b = findings.study.models
    mean = metrics.get(f"cka/{pair_name(a.name, b.name)}/mean")
    if mean is None:
        return []
    said = f"Over all pairs of layers they have a mean CKA of {mean:.2f}"
    for one, other in ((a, b), (b, a)):
        floor = metrics.get(f"cka/{pair_name(one.name, other.name)}/untrained_mean")
        if floor is not None:
            said += f"; an untrained {one.name} has {floor:.2f} with {other.name}"
    return [f"{said}.", _matches(findings, a, b)]


def _matches(findings: ComparisonResults, a: ComparedNetwork, b: ComparedNetwork) -> str:
    """Say how good a match the lowest and the highest layers of one model find in the other."""
    cka = findings.results["cka"].arrays[f"cka/{pair_name(a.name, b.name)}"].values
    rows, columns = (
        [i for i, layer in enumerate(m.layers) if m.trace[layer].role in ("stem", "block")]
        for m in (a, b)
    )
    cka = cka[np.ix_(rows, columns)]
    if min(cka.shape) < 2 or not np.isfinite(cka).all():
        return ""
    best, third = cka.max(axis=1), third_of(len(cka))
    low, high = best[:third].mean(), best[-third:].mean()
    return (
        f"The best match in {b.name} is {low:.2f} for the lowest third of {a.name}'s layers "
        f"and {high:.2f} for the highest."
    )


def _range_of_likeness(findings: ComparisonResults, metrics: Metrics) -> str:
    names = [model.name for model in findings.study.models]
    pairs = {
        f"{a} and {b}": metrics[f"cka/{pair_name(a, b)}/mean"]
        for a, b in combinations(names, 2)
        if f"cka/{pair_name(a, b)}/mean" in metrics
    }
    if len(pairs) < 2:
        return ""
    low, high = min(pairs, key=pairs.__getitem__), max(pairs, key=pairs.__getitem__)
    return (
        f"Over all pairs of layers, two models have a mean CKA of {pairs[low]:.2f} ({low}) "
        f"to {pairs[high]:.2f} ({high})."
    )


def _each(
    models: Sequence[ComparedNetwork],
    metrics: Metrics,
    key: str,
    form: str,
    sentence: str,
    times: float = 1,
) -> str:
    """Say a number of each model that has it; of more than two models, of the extreme ones."""
    keys = {model.name: key.format(model.name) for model in models}
    values = {name: times * metrics[key] for name, key in keys.items() if key in metrics}
    if not values:
        return ""
    if len(values) <= 2:
        parts = [form.format(value, name) for name, value in values.items()]
        return sentence.format(" and ".join(parts))
    ends = sorted(values.items(), key=lambda item: item[1])
    return sentence.format(" to ".join(form.format(v, name) for name, v in (ends[0], ends[-1])))


def _claims(verdicts: Sequence[Verdict]) -> str:
    tested = [verdict for verdict in verdicts if verdict.value is not None]
    if not tested:
        return ""
    held = [verdict for verdict in tested if verdict.verdict == "supported"]
    tests = "1 test" if len(tested) == 1 else f"{len(tested)} tests"
    said = f"Of {tests} of the papers' claims, {len(held)} {'is' if len(held) == 1 else 'are'} "
    said += "supported"
    known = [verdict.learnt for verdict in held if verdict.learnt is not None]
    if not known:
        return f"{said}."
    were = "was" if len(known) == 1 else "were"
    return (
        f"{said}; {len(known)} of these {were} tested before training as well, and "
        f"{known.count(False)} held then already."
    )
