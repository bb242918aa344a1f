"""Claims on linear probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.claims.base import Measurement, Models
from zoo.claims.measured.metrics import metric
from zoo.measures.intervals import Estimate, independent_difference, wilson_interval
from zoo.study.attention_layers import reads_class_token
from zoo.study.networks import ComparedNetwork

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults


def tokens_know_less(findings: ComparisonResults, models: Models) -> Measurement | str | None:
    """Measure what the first model's single tokens know minus what the second's do."""
    known = [_share_of_tokens(findings, model) for model in models]
    for share in known:
        if share is None or isinstance(share, str):
            return share
    first, second = (float(share) for share in known if share is not None)
    detail = f"{models[0].name} {first:.3f}, {models[1].name} {second:.3f}"
    return Measurement(first - second, first < second, f"share known by single tokens: {detail}")


def _share_of_tokens(findings: ComparisonResults, model: ComparedNetwork) -> float | str | None:
    """Return a single token's accuracy above chance over that of what the classifier reads."""
    read = "cls_last_accuracy" if reads_class_token(model) else "last_block_mean_accuracy"
    single = metric(findings, "probes", model, "single_token_last_mean")
    whole = metric(findings, "probes", model, read)
    chance = findings.results["probes"].metrics.get("probes/chance")
    if single is None or whole is None or chance is None:
        return None
    if whole <= chance:
        return f"{model.name}: a probe of all that its classifier reads is no better than chance"
    return (single - chance) / (whole - chance)


def middle_is_stronger(findings: ComparisonResults, models: Models) -> Measurement | None:
    """Measure the accuracy of a probe at half depth on more data minus that on less."""
    less, more = (_estimate(findings, model) for model in models)
    if less is None or more is None:
        return None
    change, low, high = independent_difference(more, less)
    detail = (
        f"probe at half depth: {less[0]:.3f} on less data, {more[0]:.3f} on more: "
        f"{change:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    )
    return Measurement(change, low > 0, detail)


def _estimate(findings: ComparisonResults, model: ComparedNetwork) -> Estimate | None:
    """Return a probe's accuracy at half depth with its interval over the tested images."""
    accuracy = metric(findings, "probes", model, "middle_accuracy")
    if accuracy is None:
        return None
    tested = findings.results["probes"].images or len(findings.study.images)
    return (accuracy, *wilson_interval(round(accuracy * tested), tested))
