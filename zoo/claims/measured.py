"""How each claim becomes a number: from the results of one analysis, for one group of models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoo.analyses.base import Subject, pair_name
from zoo.claims.base import Measurement, Models
from zoo.engine import Findings

MATCH_SHARE = 0.5


def _metric(findings: Findings, analysis: str, name: str) -> float | None:
    return findings.results[analysis].metrics.get(name)


def accuracy_gap(findings: Findings, models: Models) -> Measurement | None:
    """Measure the CNN's accuracy minus the ViT's; it must exceed chance."""
    found = _gap(findings, *models)
    if found is None:
        return None
    gap, low, high = found
    return Measurement(
        gap, low > 0, f"CNN minus ViT {gap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    )


def _gap(findings: Findings, vit: Subject, cnn: Subject) -> tuple[float, float, float] | None:
    """Return the CNN's accuracy minus the ViT's, with its interval, whichever came first."""
    for a, b, sign in ((cnn, vit, 1), (vit, cnn, -1)):
        name = f"accuracy/{pair_name(a.name, b.name)}/difference"
        value = _metric(findings, "accuracy", name)
        if value is not None:
            metrics = findings.results["accuracy"].metrics
            low, high = sorted(sign * metrics[f"{name}_{end}"] for end in ("low", "high"))
            return sign * value, low, high
    return None


def gap_narrows(findings: Findings, models: Models) -> Measurement | None:
    """Measure how much smaller the accuracy gap is on more data."""
    vit_less, vit_more, cnn_less, cnn_more = models
    less, more = _gap(findings, vit_less, cnn_less), _gap(findings, vit_more, cnn_more)
    if less is None or more is None:
        return None
    change = less[0] - more[0]
    return Measurement(
        change, change > 0, f"gap {less[0]:+.3f} on less data, {more[0]:+.3f} on more"
    )


def compare_within(metric: str) -> Callable[[Findings, Models], Measurement | None]:
    """Return a measure of the ViT's minus the CNN's value of one within-model metric."""

    def measure(findings: Findings, models: Models) -> Measurement | None:
        vit, cnn = (_metric(findings, "cka", f"cka/{m.name}/{metric}") for m in models)
        if vit is None or cnn is None:
            return None
        return Measurement(vit - cnn, vit > cnn, f"ViT {vit:.3f}, CNN {cnn:.3f}")

    return measure


def _across(findings: Findings, vit: Subject, cnn: Subject) -> np.ndarray | None:
    """Return CKA (ViT's layers, CNN's layers), stem and blocks only."""
    arrays = findings.results["cka"].arrays
    direct = arrays.get(f"cka/{pair_name(vit.name, cnn.name)}")
    swapped = arrays.get(f"cka/{pair_name(cnn.name, vit.name)}")
    if direct is None and swapped is None:
        return None
    values = direct.values if direct is not None else swapped.values.T  # type: ignore[union-attr]
    inner = [
        [i for i, n in enumerate(m.layers) if m.trace[n].role in ("stem", "block")]
        for m in (vit, cnn)
    ]
    values = values[np.ix_(*inner)]
    return values if values.size and np.isfinite(values).all() else None


def _third(count: int) -> int:
    return max(1, round(count / 3))


def lower_half_matches(findings: Findings, models: Models) -> Measurement | None:
    """Measure how many of the CNN's lower layers match the ViT's lowest third best."""
    cka = _across(findings, *models)
    if cka is None:
        return None
    lower = cka[:, : max(1, cka.shape[1] // 2)]
    third = _third(len(cka))
    share = float((lower.argmax(axis=0) < third).mean())
    detail = (
        f"{share:.0%} of the CNN's lower {lower.shape[1]} layers are most like one of the ViT's "
        f"lowest {third} of {len(cka)}"
    )
    return Measurement(share, share > MATCH_SHARE, detail)


def top_matches_nothing(findings: Findings, models: Models) -> Measurement | None:
    """Measure the best matches of the ViT's top third against its lowest third's."""
    cka = _across(findings, *models)
    if cka is None:
        return None
    third = _third(len(cka))
    best = cka.max(axis=1)
    top, bottom = float(best[-third:].mean()), float(best[:third].mean())
    if bottom <= 0:
        return None
    detail = f"best match of the ViT's top third {top:.3f}, of its lowest third {bottom:.3f}"
    return Measurement(top / bottom, top < MATCH_SHARE * bottom, detail)


def _same_layer(findings: Findings, a: Subject, b: Subject) -> float | None:
    arrays = findings.results["cka"].arrays
    found = arrays.get(f"cka/{pair_name(a.name, b.name)}") or arrays.get(
        f"cka/{pair_name(b.name, a.name)}"
    )
    if found is None or a.layers != b.layers:
        return None
    blocks = [i for i, n in enumerate(a.layers) if a.trace[n].role == "block"]
    values = np.diagonal(found.values)[blocks]
    return float(values.mean()) if values.size and np.isfinite(values).all() else None


def farther_apart(findings: Findings, models: Models) -> Measurement | None:
    """Measure the likeness of equal blocks across data sizes, ViT minus CNN."""
    vit_less, vit_more, cnn_less, cnn_more = models
    vit = _same_layer(findings, vit_less, vit_more)
    cnn = _same_layer(findings, cnn_less, cnn_more)
    if vit is None or cnn is None:
        return None
    return Measurement(vit - cnn, vit < cnn, f"block by block: ViT {vit:.3f}, CNN {cnn:.3f}")


def attention_settles(findings: Findings, models: Models) -> Measurement | None:
    """Measure attention entropy on less data minus that on more."""
    less, more = (
        _metric(findings, "attention-maps", f"attention-maps/{m.name}/entropy") for m in models
    )
    if less is None or more is None:
        return None
    detail = f"entropy over that of uniform attention: {less:.3f} on less data, {more:.3f} on more"
    return Measurement(less - more, less > more, detail)
