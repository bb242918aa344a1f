"""The papers' statements, each as a measured number and a verdict.

Thresholds come from the papers' wording and were written down before our own models were
looked at; docs/claims.md lists what changed since. A claim that our models do not show is
reported as not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.claims.base import (
    NOT_APPLICABLE,
    NOT_SUPPORTED,
    SUPPORTED,
    Claim,
    Measurement,
    Verdict,
)
from zoo.claims.table import CLAIMS
from zoo.progress import OnProgress, no_progress, when

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults

__all__ = ["CLAIMS", "Claim", "Verdict", "judge", "judge_values"]


def judge(findings: ComparisonResults, on_progress: OnProgress = no_progress) -> list[Verdict]:
    """Return a verdict for every claim and every group of models that it applies to.

    Where the comparison has references, so have the verdicts: the same tests before training,
    for which one more comparison is made.
    """
    from zoo.claims.floor import with_floors

    verdicts = [verdict for claim in CLAIMS for verdict in _judge(claim, findings)]
    if not findings.study.settings.references:
        return verdicts
    return with_floors(findings, verdicts, when(on_progress, "before training"))


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
    floor = None if untrained is None or verdict.value is None else claim.measure(*untrained)
    return replace(verdict, untrained=floor if isinstance(floor, Measurement) else None)


def _judge(claim: Claim, findings: ComparisonResults) -> Iterator[Verdict]:
    result = findings.results.get(claim.analysis)
    n = (result.images if result else None) or len(findings.study.images)
    groups = list(claim.cases(findings.study.models)) if claim.cases else []
    if not groups:
        yield Verdict(claim, (), None, n, NOT_APPLICABLE, f"needs {claim.applies_when}")
        return
    for models in groups:
        names = tuple(model.name for model in models)
        if result is None:
            reason = findings.not_applicable.get(claim.analysis, "was left out")
            yield Verdict(claim, names, None, n, NOT_APPLICABLE, f"{claim.analysis}: {reason}")
            continue
        unknown = f"{claim.analysis} could not measure it for these models (see its notes)"
        yield _verdict(claim, names, n, claim.measure(findings, models), unknown)


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
