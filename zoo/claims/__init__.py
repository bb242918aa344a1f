"""The papers' statements, each as a measured number and a verdict.

Thresholds come from the papers' wording and were written down before our own models were
looked at. A claim that our models do not show is reported as not shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo.claims.base import NOT_APPLICABLE, NOT_SUPPORTED, SUPPORTED, Claim, Verdict
from zoo.claims.table import CLAIMS
from zoo.engine import Findings

__all__ = ["CLAIMS", "Claim", "Verdict", "judge"]


def judge(findings: Findings) -> list[Verdict]:
    """Return a verdict for every claim and every group of models that it applies to."""
    return [verdict for claim in CLAIMS for verdict in _judge(claim, findings)]


def _judge(claim: Claim, findings: Findings) -> Iterator[Verdict]:
    result = findings.results.get(claim.analysis)
    n = (result.images if result else None) or len(findings.study.images)
    groups = list(claim.cases(findings.study.models))
    if not groups:
        yield Verdict(claim, (), None, n, NOT_APPLICABLE, f"needs {claim.applies_when}")
        return
    for models in groups:
        names = tuple(model.name for model in models)
        if result is None:
            reason = findings.not_applicable.get(claim.analysis, "was left out")
            yield Verdict(claim, names, None, n, NOT_APPLICABLE, f"{claim.analysis}: {reason}")
            continue
        measured = claim.measure(findings, models)
        if measured is None or isinstance(measured, str):
            unknown = f"{claim.analysis} could not measure it for these models (see its notes)"
            yield Verdict(claim, names, None, n, NOT_APPLICABLE, measured or unknown)
        else:
            verdict = SUPPORTED if measured.holds else NOT_SUPPORTED
            yield Verdict(claim, names, measured.value, n, verdict, measured.detail)
