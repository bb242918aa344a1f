"""Claims on effective receptive fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.claims.base import Measurement, Models
from zoo.claims.measured.metrics import metric

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults

MOST = 0.5


def reaches_farther(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the reach of the ViT's first block minus that of the CNN's."""
    vit, cnn = (metric(findings, "receptive-field", m, "radius90_first_block") for m in models)
    if vit is None or cnn is None:
        return None
    detail = f"radius over half of the image's diagonal: ViT {vit:.3f}, CNN {cnn:.3f}"
    return Measurement(vit - cnn, vit > cnn, detail)


def grows_by_steps(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the share of steps from layer to layer at which the field grows."""
    found = findings.results["receptive-field"].arrays.get(f"radius90/{models[0].name}")
    if found is None or len(found.values) < 2 or not np.isfinite(found.values).all():
        return None
    radius = found.values
    grows = np.diff(radius) > 0
    detail = (
        f"it grows at {int(grows.sum())} of {len(grows)} steps, from {radius[0]:.1f} to "
        f"{radius[-1]:.1f} pixels"
    )
    return Measurement(float(grows.mean()), bool(grows.mean() > MOST), detail)
