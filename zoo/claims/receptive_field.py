"""Claims on effective receptive fields."""

from __future__ import annotations

import numpy as np

from zoo.claims import cases
from zoo.claims.base import RAGHU, Claim, Measurement, Networks, metric
from zoo.study.results import ComparisonResults, select

MOST = 0.5


def reaches_farther(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the reach of the ViT's first block minus that of the CNN's."""
    vit, cnn = (metric(results, "receptive-field", m, "radius90_first_block") for m in networks)
    if vit is None or cnn is None:
        return None
    detail = f"radius over half of the image's diagonal: ViT {vit:.3f}, CNN {cnn:.3f}"
    return Measurement(vit - cnn, vit > cnn, detail)


def grows_by_steps(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the share of steps from layer to layer at which the field grows."""
    found = results.results["receptive-field"].data["radius90"].sel(path="sum")
    radius = select(found, networks[0].name, role=("stem", "block", "inner")).values
    if len(radius) < 2 or not np.isfinite(radius).all():
        return None
    grows = np.diff(radius) > 0
    detail = (
        f"it grows at {int(grows.sum())} of {len(grows)} steps, from {radius[0]:.1f} to "
        f"{radius[-1]:.1f} pixels"
    )
    return Measurement(float(grows.mean()), bool(grows.mean() > MOST), detail)


CLAIMS = (
    Claim(
        id="R-reach",
        paper=RAGHU,
        figure="6",
        statement="A ViT's first block sees farther than a CNN's",
        measured_as="radius with 90 % of the receptive field over half of the image's diagonal, "
        "first block, ViT minus CNN",
        threshold="above 0",
        why="'larger' is a sign; 90 %, since half of a ViT's field is its own strong patch",
        applies_when="a ViT and a CNN",
        analysis="receptive-field",
        cases=cases.vit_and_cnn,
        measure=reaches_farther,
    ),
    Claim(
        id="R-grow",
        paper=RAGHU,
        figure="6",
        statement="A CNN's receptive field grows step by step",
        measured_as="share of steps (stem to first block, block to block) at which the radius with "
        "90 % of the field grows",
        threshold="above 0.5",
        why="'step by step' means at most of the steps",
        applies_when="a CNN",
        analysis="receptive-field",
        cases=cases.cnns,
        measure=grows_by_steps,
    ),
)
