"""Claims on the similarity of layers (CKA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.claims.base import Measurement, Models
from zoo.claims.measured.metrics import metric
from zoo.models.spec import NO_SKIP
from zoo.study.networks import ComparedNetwork
from zoo.study.results import pair_name

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults

MATCH_SHARE = 0.5


def compare_within(what: str) -> Callable[[ComparisonResults, Models], Measurement | None]:
    """Return a measure of the ViT's minus the CNN's value of one within-model metric."""

    def measure(findings: ComparisonResults, models: Models) -> Measurement | None:
        vit, cnn = (metric(findings, "cka", m, what) for m in models)
        if vit is None or cnn is None:
            return None
        return Measurement(vit - cnn, vit > cnn, f"ViT {vit:.3f}, CNN {cnn:.3f}")

    return measure


def _between(
    findings: ComparisonResults, a: ComparedNetwork, b: ComparedNetwork
) -> NDArray[np.float64] | None:
    """Return CKA (a's layers, b's layers), whichever came first; None where it was not taken."""
    arrays = findings.results["cka"].arrays
    if direct := arrays.get(f"cka/{pair_name(a.name, b.name)}"):
        return direct.values
    swapped = arrays.get(f"cka/{pair_name(b.name, a.name)}")
    return swapped.values.T if swapped else None


def _of_role(model: ComparedNetwork, *roles: str) -> list[int]:
    return [i for i, name in enumerate(model.layers) if model.trace[name].role in roles]


def _across(
    findings: ComparisonResults, a: ComparedNetwork, b: ComparedNetwork
) -> NDArray[np.float64] | None:
    """Return CKA (a's layers, b's layers) of stem and blocks; None where a cell is undefined."""
    values = _between(findings, a, b)
    if values is None:
        return None
    values = values[np.ix_(_of_role(a, "stem", "block"), _of_role(b, "stem", "block"))]
    return values if values.size and np.isfinite(values).all() else None


def lower_half_matches(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure how many of the CNN's lower layers match the ViT's lowest third best."""
    from zoo.analyses.same_layer_cka import third_of

    cka = _across(findings, *models)
    if cka is None:
        return None
    lower = cka[:, : max(1, cka.shape[1] // 2)]
    third = third_of(len(cka))
    share = float((lower.argmax(axis=0) < third).mean())
    detail = (
        f"{100 * share:.0f} % of the CNN's lower {lower.shape[1]} layers are most like one of the "
        f"ViT's lowest {third} of {len(cka)}"
    )
    return Measurement(share, share > MATCH_SHARE, detail)


def top_matches_nothing(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the best matches of the ViT's top third against its lowest third's."""
    from zoo.analyses.same_layer_cka import third_of

    cka = _across(findings, *models)
    if cka is None:
        return None
    third = third_of(len(cka))
    best = cka.max(axis=1)
    top, bottom = float(best[-third:].mean()), float(best[:third].mean())
    if bottom <= 0:
        return None
    detail = f"best match of the ViT's top third {top:.3f}, of its lowest third {bottom:.3f}"
    return Measurement(top / bottom, top < MATCH_SHARE * bottom, detail)


def _same_layer(
    findings: ComparisonResults, a: ComparedNetwork, b: ComparedNetwork
) -> NDArray[np.float64] | None:
    """Return the CKA of each block of one model with the same block of the other."""
    cka = _between(findings, a, b)
    if cka is None or a.layers != b.layers:
        return None
    values = np.diagonal(cka)[_of_role(a, "block")]
    return values if values.size and np.isfinite(values).all() else None


def _shared_start(less: ComparedNetwork, more: ComparedNetwork) -> str:
    """Say that two networks began with the same weights, which by itself makes them alike."""
    same = less.model.spec.seed == more.model.spec.seed
    return "; networks on less and on more data start from the same weights" if same else ""


def farther_apart(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the likeness of equal blocks across data sizes, ViT minus CNN."""
    vit_less, vit_more, cnn_less, cnn_more = models
    of_vit = _same_layer(findings, vit_less, vit_more)
    of_cnn = _same_layer(findings, cnn_less, cnn_more)
    if of_vit is None or of_cnn is None:
        return None
    vit, cnn = float(of_vit.mean()), float(of_cnn.mean())
    detail = f"block by block: ViT {vit:.3f}, CNN {cnn:.3f}"
    return Measurement(vit - cnn, vit < cnn, detail + _shared_start(vit_less, vit_more))


def lower_blocks_agree(findings: ComparisonResults, models: Models) -> Measurement | str | None:
    """Measure the likeness of equal blocks across data sizes, lower minus higher half."""
    values = _same_layer(findings, *models)
    if values is None:
        return None
    half = len(values) // 2
    if half == 0:
        return "one block has no halves to compare"
    lower, higher = float(values[:half].mean()), float(values[-half:].mean())
    detail = f"block by block: lower half {lower:.3f}, higher half {higher:.3f}"
    return Measurement(lower - higher, lower > higher, detail + _shared_start(*models))


def map_splits(findings: ComparisonResults, models: Models) -> Measurement | str | None:
    """Measure CKA between the blocks before and after the changed one, without minus with skips."""
    without = models[0]
    match = NO_SKIP.match(without.model.spec.arch)
    if match is None:
        return None
    changed = int(match["block"])
    means = []
    for model in models:
        numbers = {i: int(model.layers[i].rpartition(".")[2]) for i in _of_role(model, "block")}
        before = [i for i, number in numbers.items() if number < changed]
        after = [i for i, number in numbers.items() if number > changed]
        if not before or not after:
            return f"block {changed} of {without.name} has no compared blocks on both its sides"
        cka = _between(findings, model, model)
        if cka is None or not np.isfinite(cka[np.ix_(before, after)]).all():
            return None
        means.append(float(cka[np.ix_(before, after)].mean()))
    detail = f"before with after block {changed}: {means[0]:.3f} without, {means[1]:.3f} with skips"
    return Measurement(means[0] - means[1], means[0] < means[1], detail)


def mixer_is_like_vit(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the mean CKA of the Mixer with the ViT minus that with the CNN."""
    mixer, vit, cnn = models
    with_vit, with_cnn = _across(findings, mixer, vit), _across(findings, mixer, cnn)
    if with_vit is None or with_cnn is None:
        return None
    near, far = float(with_vit.mean()), float(with_cnn.mean())
    return Measurement(near - far, near > far, f"with the ViT {near:.3f}, with the CNN {far:.3f}")
