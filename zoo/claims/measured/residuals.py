"""Claims on residual connections: the ratio of what a skip carries to what a branch adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.claims.base import Measurement, Models
from zoo.claims.measured.metrics import metric
from zoo.study.networks import ComparedNetwork

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults


def cls_is_carried(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure CLS's ratio over the patches' in the first half of the blocks."""
    found = _cls_over_patches(findings, models[0], "first_half")
    return None if found is None else Measurement(found[0], found[0] > 1, found[1])


def roles_turn(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure CLS's ratio over the patches' in the second half of the blocks."""
    found = _cls_over_patches(findings, models[0], "second_half")
    return None if found is None else Measurement(found[0], found[0] < 1, found[1])


def _cls_over_patches(
    findings: ComparisonResults, vit: ComparedNetwork, half: str
) -> tuple[float, str] | None:
    cls, patch = (metric(findings, "residuals", vit, f"{t}_ratio_{half}") for t in ("cls", "patch"))
    if cls is None or not patch:
        return None
    detail = f"skip over branch in the {half.replace('_', ' ')}: CLS {cls:.2f}, patches {patch:.2f}"
    return cls / patch, detail


def skips_carry_more(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the ViT's mean ratio over the CNN's."""
    vit, cnn = (metric(findings, "residuals", m, "mean_ratio") for m in models)
    if vit is None or not cnn:
        return None
    return Measurement(vit / cnn, vit > cnn, f"skip over branch: ViT {vit:.2f}, CNN {cnn:.2f}")
