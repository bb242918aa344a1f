"""Claims on residual connections: the ratio of what a skip carries to what a branch adds."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import RAGHU, Claim, Measurement, Networks, metric
from zoo.study.results import ComparisonResults, Network


def cls_is_carried(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure CLS's ratio over the patches' in the first half of the blocks."""
    found = _cls_over_patches(results, networks[0], "first_half")
    return None if found is None else Measurement(found[0], found[0] > 1, found[1])


def roles_turn(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure CLS's ratio over the patches' in the second half of the blocks."""
    found = _cls_over_patches(results, networks[0], "second_half")
    return None if found is None else Measurement(found[0], found[0] < 1, found[1])


def _cls_over_patches(
    results: ComparisonResults, vit: Network, half: str
) -> tuple[float, str] | None:
    cls, patch = (metric(results, "residuals", vit, f"{t}_ratio_{half}") for t in ("cls", "patch"))
    if cls is None or not patch:
        return None
    detail = f"skip over branch in the {half.replace('_', ' ')}: CLS {cls:.2f}, patches {patch:.2f}"
    return cls / patch, detail


def skips_carry_more(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the ViT's mean ratio over the CNN's."""
    vit, cnn = (metric(results, "residuals", m, "mean_ratio") for m in networks)
    if vit is None or not cnn:
        return None
    return Measurement(vit / cnn, vit > cnn, f"skip over branch: ViT {vit:.2f}, CNN {cnn:.2f}")


CLAIMS = (
    Claim(
        id="R-skip-cls",
        paper=RAGHU,
        figure="7",
        statement="In a ViT's first half, skips carry the class token while patches change",
        measured_as="mean ‖z‖ / ‖f(z)‖ of the class token over that of the patches",
        threshold="above 1",
        why="the class token's ratio is the higher one: a sign",
        applies_when="a ViT with a class token",
        analysis="residuals",
        cases=cases.cls_vits,
        measure=cls_is_carried,
    ),
    Claim(
        id="R-skip-turn",
        paper=RAGHU,
        figure="7",
        statement="In a ViT's second half, skips carry the patches while the class token changes",
        measured_as="mean ‖z‖ / ‖f(z)‖ of the class token over that of the patches",
        threshold="below 1",
        why="the class token's ratio is now the lower one: a sign",
        applies_when="a ViT with a class token",
        analysis="residuals",
        cases=cases.cls_vits,
        measure=roles_turn,
    ),
    Claim(
        id="R-skip-cnn",
        paper=RAGHU,
        figure="7",
        statement="A ViT's skips carry far more than a CNN's",
        measured_as="mean ‖z‖ / ‖f(z)‖ of the ViT over that of the CNN",
        threshold="above 1",
        why="how far is read by eye; the sign is the least that it says",
        applies_when="a ViT and a CNN",
        analysis="residuals",
        cases=cases.vit_and_cnn,
        measure=skips_carry_more,
    ),
)
