"""Claims on residual connections: the ratio of what a skip carries to what a branch adds."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims import cases
from zoo.claims.base import (
    RAGHU,
    Claim,
    Draws,
    Measurement,
    Networks,
    Threshold,
    measured,
    of_two,
)
from zoo.study.replicates import draws_of
from zoo.study.results import RANGES, ComparisonResults, Network


def cls_over_patches(
    results: ComparisonResults, networks: Networks, *, half: str
) -> Measurement | None:
    """Measure CLS's ratio over the patches' in the `first half` or `second half` of the blocks.

    With an odd number of blocks, the middle one is in neither.
    """
    data = results.results["residuals"].data
    if "cls_ratio" not in data or "patch_ratio" not in data:
        return None
    cls, patch = (draws_of(data, f"{t}_ratio", networks[0].name) for t in ("cls", "patch"))
    count = cls.shape[1] // 2
    if not count:
        return None
    blocks = slice(count) if half == "first half" else slice(-count, None)
    means = _mean(cls[:, blocks]), _mean(patch[:, blocks])
    if not np.isfinite(means).all():
        return None
    detail = f"skip over branch in the {half}: CLS {means[0][0]:.2f}, patches {means[1][0]:.2f}"
    return measured(means[0] / means[1], detail)


def skip_over_branch(results: ComparisonResults, network: Network) -> Draws | None:
    """Return what a network's skips carry over what its branches add, and its draws: (1 + draws,).

    It is ‖z‖ / ‖f(z)‖, the mean over branches.
    """
    data = results.results["residuals"].data
    found = _mean(draws_of(data, "mean_ratio", network.name))
    return found if np.isfinite(found).all() else None


def _mean(ratios: Draws) -> Draws:
    """Return the mean (1 + draws,) over blocks and their branches; NaN without any."""
    known = ratios[:, np.isfinite(ratios[0])]
    return known.mean(axis=1) if known.size else np.full(len(ratios), np.nan)


claim = partial(Claim, analysis="residuals", paper=RAGHU, figure="7", within=RANGES["ratio"])
CLAIMS = (
    claim(
        id="R-skip-cls",
        statement="In a ViT's first half, skips carry the class token while patches change",
        measured_as="mean ‖z‖ / ‖f(z)‖ of the class token over that of the patches, first half of "
        "the blocks",
        threshold=Threshold("above", 1),
        why="the class token's ratio is the higher one",
        applies_when="a ViT with a class token",
        cases=cases.cls_vits,
        measure=partial(cls_over_patches, half="first half"),
    ),
    claim(
        id="R-skip-turn",
        statement="In a ViT's second half, skips carry the patches while the class token changes",
        measured_as="mean ‖z‖ / ‖f(z)‖ of the class token over that of the patches, second half of "
        "the blocks",
        threshold=Threshold("below", 1),
        why="the class token's ratio is now the lower one",
        applies_when="a ViT with a class token",
        cases=cases.cls_vits,
        measure=partial(cls_over_patches, half="second half"),
    ),
    claim(
        id="R-skip-cnn",
        statement="A ViT's skips carry far more than a CNN's",
        measured_as="mean ‖z‖ / ‖f(z)‖ of the ViT over that of the CNN",
        threshold=Threshold("above", 1),
        why="the size is read by eye, so only the direction is tested",
        applies_when="a ViT and a CNN",
        cases=cases.vit_and_cnn,
        measure=of_two(
            skip_over_branch, "skip over branch: ViT {first:.2f}, CNN {second:.2f}", np.divide
        ),
    ),
)
