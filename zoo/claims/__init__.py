"""The papers' statements, each as a measured number and a verdict.

One file per analysis: how its claims become numbers, and their texts and thresholds. Thresholds
come from the papers' wording, are the weakest reading that still tests the statement, and were
written down before our own models were looked at; docs/claims.md lists what changed since. A claim
that our models do not show is reported as not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from zoo.claims import (
    accuracy,
    attention,
    calibration,
    cka,
    differences,
    frequency,
    localisation,
    loss_geometry,
    probes,
    receptive_field,
    residuals,
    robustness,
    stitching,
    training,
)
from zoo.claims.base import (
    NOT_APPLICABLE,
    UNDECIDED,
    ZHU,
    Claim,
    Measure,
    Measurement,
    Networks,
    Verdict,
    over_seeds,
)
from zoo.claims.cases import BY_TRAINING, groups_by_seed
from zoo.claims.decide import decide
from zoo.errors import listed
from zoo.measures.intervals import UNBOUNDED, Range, in_range, wilson_interval
from zoo.study.results import ComparisonResults, Result

_FILES = (
    accuracy,
    cka,
    attention,
    receptive_field,
    residuals,
    localisation,
    probes,
    training,
    frequency,
    calibration,
    differences,
    robustness,
    stitching,
    loss_geometry,
)
# Those of Zhu et al. first; else in the order of the analyses.
CLAIMS: tuple[Claim, ...] = tuple(
    sorted((claim for file in _FILES for claim in file.CLAIMS), key=lambda c: c.paper != ZHU)
)

MOST_NOTES = 3  # that one sentence quotes
# A number, or why there is none, and the same before training.
Measured = tuple[Measurement | str | None, Measurement | None]

__all__ = [
    "CLAIMS",
    "Claim",
    "Verdict",
    "at_chance",
    "decide",
    "in_seeds",
    "judge",
    "measure_claim",
]


def judge(results: ComparisonResults) -> list[Verdict]:
    """Return a verdict for every claim and every group of networks that it applies to.

    Claims are tested on the networks before training as well, where these were measured, and in
    every seed that the networks share in number: their numbers are then means over seeds.
    """
    return decide([verdict for claim in CLAIMS for verdict in _test(claim, results)])


def measure_claim(
    claim_id: str,
    models: tuple[str, ...],
    seeds: Sequence[Sequence[object]],
    *,
    n: int,
    untrained: Sequence[Sequence[object]] = (),
) -> Verdict:
    """Return a claim that is tested outside of comparisons, to be decided with what is beside it.

    Args:
        claim_id: such as `R-transfer`.
        models: whose numbers these are.
        seeds: what the claim's `measure` takes, in each seed; one or more.
        n: images behind them.
        untrained: the same of untrained networks, where it was measured.
    """
    claim = next(claim for claim in CLAIMS if claim.id == claim_id)
    found, start = (
        _mean([claim.measure(*values) for values in of], claim.within) for of in (seeds, untrained)
    )
    before = start if isinstance(start, Measurement) else None
    return _tested(claim, models, n, found, before, "its layers could not be compared")


def _mean(each: Sequence[Measurement | str | None], within: Range) -> Measurement | str | None:
    """Return the mean of a number over seeds; that of the first where not all have one."""
    first = next(iter(each), None)
    if not isinstance(first, Measurement):
        return first
    found = [one for one in each if isinstance(one, Measurement)]
    return over_seeds(found if len(found) == len(each) else [first], within)


def _test(claim: Claim, results: ComparisonResults) -> Iterator[Verdict]:
    result = results.results.get(claim.analysis)
    n = (result.images if result else None) or results.images
    groups = list(claim.cases(results.compared)) if claim.cases else []
    if not groups:
        needs = f"needs {claim.applies_when}{_training_unknown(claim, results.compared)}"
        yield Verdict(claim, (), n, NOT_APPLICABLE, needs)
        return
    for networks in groups:
        names = tuple(network.name for network in networks)
        if result is None:
            reason = results.not_applicable.get(claim.analysis, "was left out")
            yield Verdict(claim, names, n, NOT_APPLICABLE, f"{claim.analysis}: {reason}")
            continue
        chance = at_chance(results, networks) if claim.answers else None
        if chance:
            yield Verdict(claim, names, n, NOT_APPLICABLE, chance)
            continue
        found, before = in_seeds(
            claim.measure, results, networks, claim.stay_trained, within=claim.within
        )
        unknown = _why_unmeasured(claim.analysis, result, networks)
        tested = _tested(claim, names, n, found, before, unknown)
        yield replace(tested, alone=chance == "")


def _training_unknown(claim: Claim, networks: Networks) -> str:
    """Name the networks whose training images are not known, where a claim depends on these."""
    unknown = [n.name for n in networks if not (n.subset_digest or n.images)]
    if claim.cases not in BY_TRAINING or not unknown:
        return ""
    were = "was" if len(unknown) == 1 else "were"
    where = "subset_digest and subset_count of zoo.wrap"
    return f"; what {listed(unknown)} {were} trained on is not known ({where})"


def _why_unmeasured(analysis: str, result: Result, networks: Networks) -> str:
    """Say that no blocks are known of a network, or else what the analysis notes on them."""
    known = result.data.coords
    if "role" in known and known["role"].dims == known["network"].dims:
        roles = {n.name: known["role"].values[known["network"] == n.name] for n in networks}
        without = [name for name, of in roles.items() if len(of) and "block" not in of]
        if without:
            return f"needs repeated blocks, and none were found in {' or '.join(without)}"
    notes = result.notes_on(n.name for n in networks)
    more = f"; and {len(notes) - MOST_NOTES} more" if len(notes) > MOST_NOTES else ""
    said = f" (notes: {'; '.join(notes[:MOST_NOTES])}{more})" if notes else ""
    return f"{analysis} could not measure it for these models{said}"


def at_chance(results: ComparisonResults, networks: Networks) -> str | None:
    """Name a network that is right no more often than by naming the commonest class.

    Empty where all are right more often, beyond noise; None where it was not measured.
    """
    accuracy = results.results.get("accuracy")
    if accuracy is None or not {network.name for network in networks} <= set(accuracy.networks):
        return None
    for network in networks:
        predicted = accuracy.data["predicted"].sel(network=network.name)
        labels = predicted["label"].values
        right, n = int((predicted.values == labels).sum()), len(labels)
        if wilson_interval(right, n)[0] <= np.unique(labels, return_counts=True)[1].max() / n:
            return f"{network.name} answers no better than chance ({100 * right / n:.1f} % of {n})"
    return ""


def in_seeds(
    measure: Measure,
    results: ComparisonResults,
    networks: Networks,
    trained: Sequence[int] = (),
    *,
    within: Range = UNBOUNDED,
) -> Measured:
    """Return a number of a group of compared networks, and the same before training.

    Both are means over the seeds that they share in number, where it was measured in all of them.

    Args:
        measure: gives the number of one group.
        results: of the comparison.
        networks: the group.
        trained: the places in it of those that stay trained.
        within: between what the number lies.
    """
    groups = groups_by_seed(results, networks)
    each = [_measure(measure, results, group, trained) for group in groups]
    if not all(isinstance(now, Measurement) for now, _ in each):
        each = [_measure(measure, results, networks, trained)]
    now, before = zip(*each, strict=True)
    start = None if None in before else _mean(before, within)
    return _mean(now, within), start if isinstance(start, Measurement) else None


def _measure(
    measure: Measure, results: ComparisonResults, networks: Networks, trained: Sequence[int]
) -> Measured:
    initial = _before_training(results, networks, trained)
    before = measure(results, initial) if initial else None
    return measure(results, networks), before if isinstance(before, Measurement) else None


def _before_training(
    results: ComparisonResults, networks: Networks, trained: Sequence[int]
) -> Networks | None:
    """Return a group before training, but for those that stay trained; None where it is unknown."""
    group = [
        network if position in trained else results.initial(network)
        for position, network in enumerate(networks)
    ]
    known = tuple(network for network in group if network is not None)
    return known if len(known) == len(group) else None


def _tested(
    claim: Claim,
    names: tuple[str, ...],
    n: int,
    found: Measurement | str | None,
    before: Measurement | None,
    unknown: str,
) -> Verdict:
    """Return a claim with its numbers, still to be decided."""
    if found is None or isinstance(found, str):
        return Verdict(claim, names, n, NOT_APPLICABLE, found or unknown)
    change = None
    if before:
        span = claim.within[1] - claim.within[0]
        value, *ends = in_range(found.minus(before), (-span, span)).tolist()
        change = value, *ends
    n = found.images or n
    return Verdict(claim, names, n, UNDECIDED, found.detail, found, before, change)
