"""Finding a model's metric among the results of an analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.study.networks import ComparedNetwork

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults


def metric(
    findings: ComparisonResults, analysis: str, model: ComparedNetwork, what: str
) -> float | None:
    """Return a model's metric, or None where the analysis could not measure it."""
    return findings.results[analysis].metrics.get(f"{analysis}/{model.name}/{what}")
