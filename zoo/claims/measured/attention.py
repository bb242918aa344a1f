"""Claims on attention: how concentrated it is, how far heads look, what local heads resemble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.claims.base import Measurement, Models
from zoo.claims.measured.metrics import metric
from zoo.study.networks import ComparedNetwork
from zoo.study.results import pair_name

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults

LOW = HIGH = 2  # the paper shows the two lowest and the two highest layers


def attention_settles(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure attention entropy on less data minus that on more."""
    less, more = (metric(findings, "attention-maps", m, "entropy") for m in models)
    if less is None or more is None:
        return None
    detail = f"entropy over that of uniform attention: {less:.3f} on less data, {more:.3f} on more"
    return Measurement(less - more, less > more, detail)


def _shares(
    findings: ComparisonResults, model: ComparedNetwork
) -> NDArray[np.float64] | str | None:
    """Return heads' distances (layers, heads) over that of even attention."""
    arrays = findings.results["attention-distance"].arrays
    distances, uniform = (arrays.get(f"{what}/{model.name}") for what in ("distance", "uniform"))
    if distances is None or uniform is None or not np.isfinite(distances.values).all():
        return None
    if len(distances.values) < LOW + HIGH:
        return f"{model.name}: {len(distances.values)} layers have no {LOW} low and {HIGH} high"
    return np.asarray(distances.values / uniform.values)


def low_layers_mix(findings: ComparisonResults, models: Models) -> Measurement | str | None:
    """Measure how many of the lowest layers hold a local head and one that is not."""
    from zoo.analyses.attention_distance import LOCAL

    shares = _shares(findings, models[0])
    if shares is None or isinstance(shares, str):
        return shares
    local = shares[:LOW] < LOCAL
    mixed = int((local.any(axis=1) & ~local.all(axis=1)).sum())
    counts = " and ".join(str(count) for count in local.sum(axis=1))
    detail = f"{counts} of {local.shape[1]} heads are local in the {LOW} lowest layers"
    return Measurement(mixed, mixed > 0, detail)


def low_layers_spread(findings: ComparisonResults, models: Models) -> Measurement | str | None:
    """Measure how much farther apart heads are in low layers than in high ones."""
    shares = _shares(findings, models[0])
    if shares is None or isinstance(shares, str):
        return shares
    spread = np.ptp(shares, axis=1)
    low, high = float(spread[:LOW].mean()), float(spread[-HIGH:].mean())
    detail = f"farthest minus nearest head: {low:.3f} in low layers, {high:.3f} in high ones"
    return Measurement(low - high, low > high, f"{detail}, of even attention's distance")


def high_layers_are_global(findings: ComparisonResults, models: Models) -> Measurement | str | None:
    """Measure the share of heads in the highest layers that are not local."""
    from zoo.analyses.attention_distance import LOCAL

    shares = _shares(findings, models[0])
    if shares is None or isinstance(shares, str):
        return shares
    wide = shares[-HIGH:] >= LOCAL
    detail = f"{int(wide.sum())} of {wide.size} heads of the {HIGH} highest layers are global"
    return Measurement(float(wide.mean()), bool(wide.all()), detail)


def low_layers_learn_local(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the number of local heads in the lowest layers on less data minus that on more."""
    less, more = (
        metric(findings, "attention-distance", m, "low_layers_local_heads") for m in models
    )
    if less is None or more is None:
        return None
    detail = f"local heads in the two lowest layers: {less:.0f} on less data, {more:.0f} on more"
    return Measurement(float(less - more), less < more, detail)


def local_heads_are_like_cnn(
    findings: ComparisonResults, models: Models
) -> Measurement | str | None:
    """Measure the CKA of the most local heads with early CNN layers, minus the most global's."""
    from zoo.analyses.local_heads_figures import LEAST_RANGE

    vit, cnn = models
    metrics = findings.results["local-heads"].metrics
    name = f"local-heads/{pair_name(vit.name, cnn.name)}"
    reach, value = (metrics.get(f"{name}/{w}") for w in ("distance_range", "local_minus_global"))
    if reach is None or value is None or vit.grid is None:
        return None
    if reach < LEAST_RANGE * vit.grid.patch:
        return (
            f"the first layer's heads look equally far: local and global ones are {reach:.2f} "
            f"pixels apart, under half a patch of {vit.grid.patch:g}"
        )
    detail = f"CKA of local minus that of global heads {value:+.3f}, {reach:.1f} pixels apart"
    return Measurement(value, value > 0, detail)
