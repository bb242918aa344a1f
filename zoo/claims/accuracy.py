"""Claims on accuracy."""

from __future__ import annotations

from functools import partial

from zoo.claims import cases
from zoo.claims.base import RAGHU, ZHU, Claim, Measurement, Networks, Threshold, measured
from zoo.measures.intervals import DIFFERENCE, paired_difference
from zoo.measures.replicates import GroupedMean
from zoo.study.results import ComparisonResults


def accuracy_gap(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the second network's accuracy minus the first's, on the same images."""
    result = results.results["accuracy"]
    worse, better = (network.name for network in networks)
    if not {worse, better} <= set(result.networks):
        return None
    predicted = [result.data["predicted"].sel(network=name) for name in (better, worse)]
    first, second = (row.values == row["label"].values for row in predicted)
    each = GroupedMean()
    each.add(first.astype(float) - second)
    gap, low, high = paired_difference(first, second)
    detail = f"{better} minus {worse} {gap:+.3f}"
    return Measurement(gap, detail, low, high, each.result().draws())


def gap_narrows(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure how much smaller the accuracy gap is on more data."""
    vit_less, vit_more, cnn_less, cnn_more = networks
    less = accuracy_gap(results, (vit_less, cnn_less))
    more = accuracy_gap(results, (vit_more, cnn_more))
    if less is None or more is None or less.draws is None or more.draws is None:
        return None
    detail = f"gap {less.value:+.3f} on less data, {more.value:+.3f} on more"
    return measured(less.draws - more.draws, detail)


claim = partial(Claim, analysis="accuracy")
CLAIMS = (
    claim(
        id="Z-accuracy",
        paper=ZHU,
        figure="table of accuracies",
        statement="On little data a CNN is more accurate than a ViT of similar size",
        measured_as="accuracy of the CNN minus that of the ViT, on the same test images",
        threshold=Threshold("above", 0),
        why="the claim gives a direction, no size",
        applies_when="a ViT and a CNN that were trained on the same images, neither with more than "
        "twice the parameters of the other",
        cases=cases.similar_vit_and_cnn_on_the_same_data,
        measure=accuracy_gap,
        within=DIFFERENCE,
    ),
    claim(
        id="Z-gap",
        paper=ZHU,
        figure="table of accuracies",
        statement="The gap between CNN and ViT narrows as data grows",
        measured_as="accuracy gap on less data minus the gap on more data",
        threshold=Threshold("above", 0),
        why="'narrows' gives a direction, no size",
        applies_when="a ViT and a CNN, each trained on the same smaller and larger subset",
        cases=cases.both_on_less_and_more,
        measure=gap_narrows,
    ),
    claim(
        id="R-noskip-cost",
        paper=RAGHU,
        figure="8",
        statement="Training without a middle block's skips costs a ViT accuracy",
        measured_as="accuracy of the whole ViT minus that of the one without the block's skips",
        threshold=Threshold("above", 0),
        why="the paper's 4 % is for its data; here any cost beyond chance counts",
        applies_when="a ViT trained without a block's skips (`-noskip<i>`) and the whole one, on "
        "the same images",
        cases=cases.without_skips_and_whole,
        measure=accuracy_gap,
        within=DIFFERENCE,
    ),
)
