"""Claims on accuracy."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import RAGHU, ZHU, Claim, Measurement, Networks
from zoo.measures.intervals import Estimate, independent_difference
from zoo.study.results import ComparisonResults, Network


def _gap(results: ComparisonResults, worse: Network, better: Network) -> Estimate | None:
    """Return one network's accuracy above another's, with its interval."""
    found = results.results["accuracy"].find("difference", better.name, worse.name)
    return (found.value, found.low, found.high) if found else None


def accuracy_gap(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the CNN's accuracy minus the ViT's; it must exceed chance."""
    return _beyond_chance(results, networks, "CNN minus ViT")


def skips_are_worth(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the whole ViT's accuracy minus that of the one trained without a block's skips."""
    return _beyond_chance(results, networks, "with minus without the skips")


def _beyond_chance(results: ComparisonResults, networks: Networks, what: str) -> Measurement | None:
    worse, better = networks
    found = _gap(results, worse, better)
    if found is None:
        return None
    gap, low, high = found
    return Measurement(gap, low > 0, f"{what} {gap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")


def gap_narrows(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure how much smaller the accuracy gap is on more data."""
    vit_less, vit_more, cnn_less, cnn_more = networks
    less, more = _gap(results, vit_less, cnn_less), _gap(results, vit_more, cnn_more)
    if less is None or more is None:
        return None
    change, low, high = independent_difference(less, more)
    detail = (
        f"gap {less[0]:+.3f} on less data, {more[0]:+.3f} on more: "
        f"{change:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    )
    return Measurement(change, low > 0, detail)


CLAIMS = (
    Claim(
        id="Z-accuracy",
        paper=ZHU,
        figure="table of accuracies",
        statement="On little data a CNN is more accurate than a ViT of similar size",
        measured_as="accuracy of the CNN minus that of the ViT, on the same test images",
        threshold="the 95 % interval lies above 0",
        why="'better' must not be chance: the paired interval excludes no difference",
        applies_when="a ViT and a CNN that were trained on the same images, neither with more than "
        "twice the parameters of the other",
        analysis="accuracy",
        cases=cases.similar_vit_and_cnn_on_the_same_data,
        measure=accuracy_gap,
        stay_trained=None,
    ),
    Claim(
        id="Z-gap",
        paper=ZHU,
        figure="table of accuracies",
        statement="The gap between CNN and ViT narrows as data grows",
        measured_as="accuracy gap on less data minus the gap on more data",
        threshold="the 95 % interval lies above 0",
        why="'narrows' must not be chance; by how much is not said",
        applies_when="a ViT and a CNN, each trained on the same smaller and larger subset",
        analysis="accuracy",
        cases=cases.both_on_less_and_more,
        measure=gap_narrows,
        stay_trained=None,
    ),
    Claim(
        id="R-noskip-cost",
        paper=RAGHU,
        figure="8",
        statement="Training without a middle block's skips costs a ViT accuracy",
        measured_as="accuracy of the whole ViT minus that of the one without the block's skips",
        threshold="the 95 % interval lies above 0",
        why="the paper's 4 % hold for its data; a cost must at least not be chance",
        applies_when="a ViT trained without a block's skips (`-noskip<i>`) and the whole one, on "
        "the same images",
        analysis="accuracy",
        cases=cases.without_skips_and_whole,
        measure=skips_are_worth,
        stay_trained=None,
    ),
)
