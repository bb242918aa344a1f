"""Claims on linear probes."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims import cases
from zoo.claims.base import (
    A_VIT,
    RAGHU,
    TWO_SIZES,
    Claim,
    Draws,
    Measurement,
    Networks,
    Threshold,
    of_two,
)
from zoo.measures.intervals import DIFFERENCE, Estimate, independent_difference, wilson_interval
from zoo.study.replicates import draws_of
from zoo.study.results import ComparisonResults, Network


def share_of_tokens(results: ComparisonResults, network: Network) -> Draws | str | None:
    """Return a single token's accuracy above chance over that of what the classifier reads.

    With what it might be on other test images, (1 + draws,), for the probes as they were fitted.
    """
    probes = results.results["probes"]
    read = "cls_last_accuracy" if network.class_token else "last_block_mean_accuracy"
    whole, chance = probes.metric(read, network.name), probes.metric("chance")
    if whole is None or chance is None:
        return None
    if rated(results, whole)[1] <= chance:
        return f"{network.name}: a probe of all that its classifier reads is no better than chance"
    shares = draws_of(probes.data, "single_token_share", network.name)
    last = shares[:, np.isfinite(shares[0])]
    return last[:, 0] if last.size else None


def middle_is_stronger(
    results: ComparisonResults, networks: Networks, *, of: tuple[str, str]
) -> Measurement | None:
    """Measure the accuracy of a probe at half depth in the first network minus the second's."""
    first, second = (at_half_depth(results, network) for network in networks)
    if first is None or second is None:
        return None
    change, low, high = independent_difference(first, second)
    detail = f"probe at half depth: {first[0]:.3f} {of[0]}, {second[0]:.3f} {of[1]}"
    return Measurement(change, detail, low, high)


def more_data_is_stronger(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the accuracy of a probe at half depth on more data minus that on less."""
    return middle_is_stronger(results, networks[::-1], of=("on more data", "on less"))


def more_data_helps_more(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure what a probe at half depth gains from more data in one network minus another."""
    first, second = (more_data_is_stronger(results, pair) for pair in (networks[:2], networks[2:]))
    if first is None or second is None:
        return None
    difference, low, high = independent_difference(first.estimate, second.estimate)
    detail = (
        f"a probe at half depth gains {first.value:+.3f} from more data in the larger ViT, "
        f"{second.value:+.3f} in the smaller"
    )
    return Measurement(difference, detail, low, high)


def at_half_depth(results: ComparisonResults, network: Network) -> Estimate | None:
    """Return a probe's accuracy at half depth with its interval over the tested images."""
    accuracy = results.results["probes"].metric("middle_accuracy", network.name)
    return None if accuracy is None else rated(results, accuracy)


def rated(results: ComparisonResults, accuracy: float) -> Estimate:
    """Return a probe's accuracy with its interval over the tested images."""
    tested = results.results["probes"].images or results.images
    return (accuracy, *wilson_interval(round(accuracy * tested), tested))


KNOW_LESS = of_two(
    share_of_tokens, "share known by single tokens: {a} {first:.3f}, {b} {second:.3f}"
)
claim = partial(Claim, analysis="probes", paper=RAGHU)
CLAIMS = (
    claim(
        id="R-token-cnn",
        figure="11",
        statement="Late in a ViT with a class token, single patch tokens know less of the class "
        "than a CNN's locations",
        measured_as="a single token's probe accuracy above chance over that of what the classifier "
        "reads, last block, ViT minus CNN",
        threshold=Threshold("below", 0),
        why="'little' is relative to the CNN; a share, since one network may know more overall",
        applies_when="a ViT with a class token and a CNN",
        cases=cases.cls_vit_and_cnn,
        measure=KNOW_LESS,
    ),
    claim(
        id="R-token-gap",
        figure="11",
        statement="Late in a ViT with a class token, single patch tokens know less of the class "
        "than where their mean is pooled",
        measured_as="a single token's probe accuracy above chance over that of what the classifier "
        "reads, last block, class token minus mean",
        threshold=Threshold("below", 0),
        why="'little' is relative to the other; a share, since one network may know more overall",
        applies_when="a ViT with a class token and one that pools the mean of its tokens, trained "
        "on the same images",
        cases=cases.cls_and_gap_vit,
        measure=KNOW_LESS,
    ),
    claim(
        id="R-middle-data",
        figure="13",
        statement="The middle layers of a ViT trained on more data are far stronger",
        measured_as="accuracy of a linear probe at half depth, on more data minus on less data",
        threshold=Threshold("above", 0),
        why="the paper's 30 points are for its data; here any gain beyond chance counts",
        applies_when="the same ViT trained on a smaller and a larger subset",
        cases=cases.vit_on_less_and_more,
        measure=more_data_is_stronger,
        within=DIFFERENCE,
    ),
    claim(
        id="R-size-middle",
        figure="13, F.1",
        statement="More data strengthens a larger ViT's middle layers more than a smaller one's",
        measured_as="gain of a linear probe at half depth from more data, larger minus smaller ViT",
        threshold=Threshold("above", 0),
        why="'especially helpful' for larger models gives a direction, no size",
        applies_when=TWO_SIZES,
        cases=cases.two_sizes_of_vit_on_less_and_more,
        measure=more_data_helps_more,
    ),
    claim(
        id="R-middle-cnn",
        figure="13",
        statement="With enough data, a ViT's middle layers are stronger than a CNN's",
        measured_as="accuracy of a linear probe at half depth, on the mean over places, ViT minus "
        "CNN",
        threshold=Threshold("above", 0),
        why="'stronger' gives a direction, no size; the paper says it of its larger ViTs",
        applies_when=f"{A_VIT}, and a CNN trained on as many images",
        cases=cases.vit_and_cnn_on_most_data,
        measure=partial(middle_is_stronger, of=("in the ViT", "in the CNN")),
        within=DIFFERENCE,
    ),
)
