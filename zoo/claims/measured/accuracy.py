"""Claims on accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.claims.base import Measurement, Models
from zoo.measures.intervals import Estimate, independent_difference
from zoo.study.networks import ComparedNetwork
from zoo.study.results import pair_name

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults


def _gap(
    findings: ComparisonResults, worse: ComparedNetwork, better: ComparedNetwork
) -> Estimate | None:
    """Return one model's accuracy above another's, with its interval, whichever came first."""
    arrays = findings.results["accuracy"].arrays
    for a, b, sign in ((better, worse, 1), (worse, better, -1)):
        if found := arrays.get(f"difference/{pair_name(a.name, b.name)}"):
            value, *ends = (sign * float(end) for end in found.values)
            return value, min(ends), max(ends)
    return None


def accuracy_gap(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the CNN's accuracy minus the ViT's; it must exceed chance."""
    return _beyond_chance(findings, models, "CNN minus ViT")


def skips_are_worth(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the whole ViT's accuracy minus that of the one trained without a block's skips."""
    return _beyond_chance(findings, models, "with minus without the skips")


def _beyond_chance(findings: ComparisonResults, models: Models, what: str) -> Measurement | None:
    worse, better = models
    found = _gap(findings, worse, better)
    if found is None:
        return None
    gap, low, high = found
    return Measurement(gap, low > 0, f"{what} {gap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")


def gap_narrows(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure how much smaller the accuracy gap is on more data."""
    vit_less, vit_more, cnn_less, cnn_more = models
    less, more = _gap(findings, vit_less, cnn_less), _gap(findings, vit_more, cnn_more)
    if less is None or more is None:
        return None
    change, low, high = independent_difference(less, more)
    detail = (
        f"gap {less[0]:+.3f} on less data, {more[0]:+.3f} on more: "
        f"{change:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    )
    return Measurement(change, low > 0, detail)
