"""Claims on spatial localisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.claims.base import Measurement, Models
from zoo.claims.measured.metrics import metric
from zoo.study.networks import ComparedNetwork

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults

MOST = 0.5


def tokens_keep_place(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the share of tokens that are most like their own patch."""
    score = metric(findings, "localisation", models[0], "score_last_block")
    if score is None:
        return None
    grid = models[0].grid
    tokens = f"{grid.height * grid.width} tokens" if grid else "tokens"
    return Measurement(score, score > MOST, f"{100 * score:.0f} % of the last block's {tokens}")


def keeps_more(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the first model's share above chance minus the second's."""
    first, second = (_above_chance(findings, model) for model in models)
    if first is None or second is None:
        return None
    detail = f"above chance: {models[0].name} {first:.3f}, {models[1].name} {second:.3f}"
    return Measurement(first - second, first > second, detail)


def _above_chance(findings: ComparisonResults, model: ComparedNetwork) -> float | None:
    """Return the score on a scale from chance (0) to every token in its place (1)."""
    score, chance = (
        metric(findings, "localisation", model, what) for what in ("score_last_block", "chance")
    )
    if score is None or chance is None or chance >= 1:
        return None
    return (score - chance) / (1 - chance)
