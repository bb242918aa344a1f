"""The papers' statements, each as a measured number and a verdict.

A file an analysis: how its claims become numbers, and their texts and thresholds. Thresholds come
from the papers' wording, are the weakest reading that still tests the statement, and were written
down before our own models were looked at; docs/claims.md lists what changed since. A claim that
our models do not show is reported as not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from zoo.claims import (
    accuracy,
    attention,
    calibration,
    cka,
    frequency,
    localisation,
    probes,
    receptive_field,
    residuals,
    robustness,
    training,
)
from zoo.claims.base import (
    NOT_APPLICABLE,
    NOT_SUPPORTED,
    SUPPORTED,
    ZHU,
    Claim,
    Measurement,
    Networks,
    Verdict,
)
from zoo.study.results import ComparisonResults

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
    robustness,
)
# Those of Zhu et al. first; else in the order of the analyses.
CLAIMS: tuple[Claim, ...] = tuple(
    sorted((claim for file in _FILES for claim in file.CLAIMS), key=lambda c: c.paper != ZHU)
)

__all__ = ["CLAIMS", "Claim", "Verdict", "judge", "judge_values"]


def judge(results: ComparisonResults) -> list[Verdict]:
    """Return a verdict for every claim and every group of networks that it applies to.

    Where the networks were measured before training as well, so are the claims.
    """
    return [verdict for claim in CLAIMS for verdict in _judge(claim, results)]


def judge_values(
    claim_id: str,
    models: tuple[str, ...],
    values: Sequence[object],
    *,
    n: int,
    untrained: Sequence[object] | None = None,
) -> Verdict:
    """Return the verdict on a claim that is tested outside of comparisons.

    Args:
        claim_id: such as `R-transfer`.
        models: whose numbers these are.
        values: what the claim's `measure` takes.
        n: images behind them.
        untrained: the same of untrained networks, where it was measured.
    """
    claim = next(claim for claim in CLAIMS if claim.id == claim_id)
    measured = claim.measure(*values)
    verdict = _verdict(claim, models, n, measured, "its layers could not be compared")
    before = None if untrained is None or verdict.value is None else claim.measure(*untrained)
    return replace(verdict, untrained=before if isinstance(before, Measurement) else None)


def _judge(claim: Claim, results: ComparisonResults) -> Iterator[Verdict]:
    result = results.results.get(claim.analysis)
    n = (result.images if result else None) or results.images
    groups = list(claim.cases(results.compared)) if claim.cases else []
    if not groups:
        yield Verdict(claim, (), None, n, NOT_APPLICABLE, f"needs {claim.applies_when}")
        return
    for networks in groups:
        names = tuple(network.name for network in networks)
        if result is None:
            reason = results.not_applicable.get(claim.analysis, "was left out")
            yield Verdict(claim, names, None, n, NOT_APPLICABLE, f"{claim.analysis}: {reason}")
            continue
        unknown = f"{claim.analysis} could not measure it for these models (see its notes)"
        verdict = _verdict(claim, names, n, claim.measure(results, networks), unknown)
        before = _before_training(claim, results, networks)
        measured = claim.measure(results, before) if before and verdict.value is not None else None
        yield replace(verdict, untrained=measured if isinstance(measured, Measurement) else None)


def _before_training(
    claim: Claim, results: ComparisonResults, networks: Networks
) -> Networks | None:
    """Return a group before training, but for those that stay trained; None where it is unknown."""
    stay = claim.stay_trained
    if stay is None:
        return None
    group = [
        network if position in stay else results.initial(network)
        for position, network in enumerate(networks)
    ]
    known = tuple(network for network in group if network is not None)
    return known if len(known) == len(group) else None


def _verdict(
    claim: Claim,
    names: tuple[str, ...],
    n: int,
    measured: Measurement | str | None,
    unknown: str,
) -> Verdict:
    if measured is None or isinstance(measured, str):
        return Verdict(claim, names, None, n, NOT_APPLICABLE, measured or unknown)
    verdict = SUPPORTED if measured.holds else NOT_SUPPORTED
    return Verdict(claim, names, measured.value, n, verdict, measured.detail)
