"""Claims on the similarity of layers (CKA)."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims import cases
from zoo.claims.base import (
    RAGHU,
    TWO_SIZES,
    ZHU,
    Claim,
    Draws,
    Measurement,
    Networks,
    Threshold,
    measured,
    of_two,
)
from zoo.measures.counts import best_within, count_draws
from zoo.measures.depth import third_of
from zoo.measures.intervals import SHARE
from zoo.models.spec import NO_SKIP
from zoo.study.axes import select
from zoo.study.replicates import draws_of, replicates_of
from zoo.study.results import ComparisonResults, Network

CHANCE = 0.05  # p of best matches that permuted images give as well
BODY = {"role": ("stem", "block"), "role_b": ("stem", "block")}
VIT_AND_CNN = "ViT {first:.3f}, CNN {second:.3f}"


def _cells(results: ComparisonResults, a: Network, b: Network, *roles: str) -> Draws | None:
    """Return CKA (1 + draws, layers of a, of b) of these roles; None with a gap, or empty."""
    data = results.results["cka"].data
    found = draws_of(data, "cka", a.name, b.name, role=roles, role_b=roles)
    return found if found.size and np.isfinite(found).all() else None


def _across(results: ComparisonResults, a: Network, b: Network) -> Draws | None:
    """Return CKA of stem and blocks and its draws."""
    return _cells(results, a, b, "stem", "block")


def own_similarity(results: ComparisonResults, network: Network) -> Draws | None:
    """Return the mean CKA of a network's different layers and its draws, (1 + draws,)."""
    cka = _across(results, network, network)
    if cka is None or cka.shape[1] < 2:
        return None
    return cka[:, ~np.eye(cka.shape[1], dtype=bool)].mean(axis=1)


def similarity_of_ends(results: ComparisonResults, network: Network) -> Draws | None:
    """Return the mean CKA of a network's first with its last quarter of layers and its draws."""
    cka = _across(results, network, network)
    if cka is None or cka.shape[1] < 2:
        return None
    quarter = max(1, cka.shape[1] // 4)
    return cka[:, :quarter, -quarter:].reshape(len(cka), -1).mean(axis=1)


def _unmatched(results: ComparisonResults, a: Network, b: Network) -> str:
    """Say that the layers of one network have no match in another; empty where they do.

    The best of matches that chance gives is somewhere too, and tells nothing. Of networks before
    training and of other seeds it is not asked: no images were permuted for them.
    """
    p = results.results["cka"].metric("best_match_p", a.name, b.name)
    if p is None or p < CHANCE:
        return ""
    return f"{a.name} is no better matched in {b.name} than with permuted images (p {p:.3f})"


def lower_half_matches(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure how many of the CNN's lower layers match the ViT's lowest third best."""
    vit, cnn = networks
    if why := _unmatched(results, cnn, vit):
        return why
    cka = replicates_of(results.results["cka"].data, "cka", vit.name, cnn.name, **BODY)
    if not cka.whole.size or not np.isfinite(cka.whole).all():
        return None
    rows, columns = cka.whole.shape
    lower, third = max(1, columns // 2), third_of(rows)
    count = int((cka.whole[:, :lower].argmax(axis=0) < third).sum())
    detail = (
        f"{100 * count / lower:.0f} % of the CNN's lower {lower} layers are most like one of the "
        f"ViT's lowest {third} of {rows}"
    )
    layers, inside = cka.map(np.transpose), np.arange(rows) < third
    tests = [best_within(layers[layer], inside) for layer in range(lower)]
    return measured(count_draws(count, tests) / lower, detail, lower)


def top_matches_nothing(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure the best matches of the ViT's top third against its lowest third's."""
    if why := _unmatched(results, *networks):
        return why
    cka = _across(results, *networks)
    if cka is None:
        return None
    third = third_of(cka.shape[1])
    best = cka.max(axis=2)
    top, bottom = best[:, -third:].mean(axis=1), best[:, :third].mean(axis=1)
    if bottom[0] <= 0:
        return None
    detail = f"best match of the ViT's top third {top[0]:.3f}, of its lowest third {bottom[0]:.3f}"
    return measured(top / bottom, detail)


def _same_layer(results: ComparisonResults, a: Network, b: Network) -> Draws | None:
    """Return the CKA (1 + draws, blocks) of each block with the same block of the other network."""
    cka = _cells(results, a, b, "block")
    names = select(results.results["cka"].data["cka"], a.name, b.name)
    if cka is None or names["name"].values.tolist() != names["name_b"].values.tolist():
        return None
    return np.diagonal(cka, axis1=1, axis2=2)


def _shared_start(less: Network, more: Network) -> str:
    """Say that two networks began with the same weights, which by itself makes them alike."""
    known = less.subset_digest and more.subset_digest  # the seed of published weights is not
    same = known and less.seed == more.seed
    return "; networks on less and on more data start from the same weights" if same else ""


def farther_apart(
    results: ComparisonResults, networks: Networks, *, of: tuple[str, str]
) -> Measurement | None:
    """Measure the similarity of equal blocks across data sizes, of the first pair minus the second.

    Args:
        results: of the comparison.
        networks: the first network on less and on more data, and the second.
        of: what both are called.
    """
    less, more, *others = networks
    of_first, of_second = _same_layer(results, less, more), _same_layer(results, *others)
    if of_first is None or of_second is None:
        return None
    first, second = of_first.mean(axis=1), of_second.mean(axis=1)
    detail = f"block by block: {of[0]} {first[0]:.3f}, {of[1]} {second[0]:.3f}"
    return measured(first - second, detail + _shared_start(less, more))


def lower_blocks_agree(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure the similarity of equal blocks across data sizes, lower minus higher half."""
    values = _same_layer(results, *networks)
    if values is None:
        return None
    half = values.shape[1] // 2
    if half == 0:
        return "one block has no halves to compare"
    lower, higher = values[:, :half].mean(axis=1), values[:, -half:].mean(axis=1)
    detail = f"block by block: lower half {lower[0]:.3f}, higher half {higher[0]:.3f}"
    return measured(lower - higher, detail + _shared_start(*networks))


def map_splits(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure CKA between the blocks before and after the changed one, without minus with skips."""
    match = NO_SKIP.match(networks[0].arch)
    if match is None:
        return None
    changed = int(match["block"])
    means = []
    for network in networks:
        data = results.results["cka"].data
        of = select(data["cka"], network.name, role="block")["block"].values
        before, after = of < changed, of > changed
        if not before.any() or not after.any():
            return f"block {changed} of {networks[0].name} has no compared blocks on both its sides"
        cka = draws_of(data, "cka", network.name, network.name, role="block", role_b="block")
        cells = cka[:, before][:, :, after].mean(axis=(1, 2))
        if not np.isfinite(cells).all():
            return None
        means.append(cells)
    without, whole = means
    detail = (
        f"blocks before block {changed} with those after it: {without[0]:.3f} without, "
        f"{whole[0]:.3f} with skips"
    )
    return measured(without - whole, detail)


def mixer_is_like_vit(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the mean CKA of the Mixer with the ViT minus that with the CNN."""
    mixer, vit, cnn = networks
    with_vit, with_cnn = _across(results, mixer, vit), _across(results, mixer, cnn)
    if with_vit is None or with_cnn is None:
        return None
    near, far = with_vit.mean(axis=(1, 2)), with_cnn.mean(axis=(1, 2))
    return measured(near - far, f"with the ViT {near[0]:.3f}, with the CNN {far[0]:.3f}")


claim = partial(Claim, analysis="cka", paper=RAGHU)
CLAIMS = (
    claim(
        id="Z-far",
        paper=ZHU,
        figure="CKA figures",
        statement="A ViT trained on little data is farther from one trained on much than CNNs are",
        measured_as="mean CKA of equal blocks, ViT pair minus CNN pair",
        threshold=Threshold("below", 0),
        why="'farther' gives a direction, no size",
        applies_when="a ViT and a CNN, each trained on the same smaller and larger subset",
        cases=cases.both_on_less_and_more,
        measure=partial(farther_apart, of=("ViT", "CNN")),
        stay_trained=(1, 3),
    ),
    claim(
        id="R-uniform",
        figure="1",
        statement="A ViT's layers are more alike across depth than a CNN's",
        measured_as="mean CKA of different layers (stem and blocks) of the ViT minus the CNN's",
        threshold=Threshold("above", 0),
        why="the figure is read by eye, so only its direction is tested",
        applies_when="a ViT and a CNN",
        cases=cases.vit_and_cnn,
        measure=of_two(own_similarity, VIT_AND_CNN),
    ),
    claim(
        id="R-ends",
        figure="1",
        statement="A ViT's lowest and highest layers are more alike than a CNN's",
        measured_as="mean CKA of the first with the last quarter of layers, ViT minus CNN",
        threshold=Threshold("above", 0),
        why="the figure is read by eye, so only its direction is tested",
        applies_when="a ViT and a CNN",
        cases=cases.vit_and_cnn,
        measure=of_two(similarity_of_ends, VIT_AND_CNN),
    ),
    claim(
        id="R-lower-half",
        figure="2, B.1",
        statement="The lower half of a CNN is most like the lowest third of a ViT",
        measured_as="share of the CNN's lower half of layers whose best match is in that third",
        threshold=Threshold("above", 0.5),
        why="'the lower half' means most of its layers; a third, where the paper reads a quarter",
        applies_when="a ViT and a CNN",
        cases=cases.vit_and_cnn,
        measure=lower_half_matches,
        within=SHARE,
    ),
    claim(
        id="R-top",
        figure="2, B.1",
        statement="The top third of a ViT is like nothing in a CNN",
        measured_as="mean best match of the ViT's top third over that of its lowest third",
        threshold=Threshold("below", 0.5),
        why="'like nothing' means less than half as alike as the depth that does match",
        applies_when="a ViT and a CNN",
        cases=cases.vit_and_cnn,
        measure=top_matches_nothing,
    ),
    claim(
        id="R-noskip-split",
        figure="8",
        statement="Trained without a middle block's skips, a ViT's layers fall into two groups",
        measured_as="mean CKA of the blocks before with those after it, without minus with skips",
        threshold=Threshold("below", 0),
        why="a map that splits at the block is darker across it; no size is given",
        applies_when="a ViT trained without a block's skips (`-noskip<i>`) and the whole one, on "
        "the same images",
        cases=cases.without_skips_and_whole,
        measure=map_splits,
    ),
    claim(
        id="R-low-agree",
        figure="12",
        statement="A ViT's lower layers are found even with little data, higher ones need more",
        measured_as="mean CKA of equal blocks across data sizes, lower minus higher half of blocks",
        threshold=Threshold("above", 0),
        why="the figure falls with depth; only that direction is tested",
        applies_when="the same ViT trained on a smaller and a larger subset",
        cases=cases.vit_on_less_and_more,
        measure=lower_blocks_agree,
        stay_trained=(1,),
    ),
    claim(
        id="R-size-data",
        figure="12",
        statement="A larger ViT needs more data than a smaller one to learn the same layers",
        measured_as="mean CKA of equal blocks across data sizes, larger minus smaller ViT",
        threshold=Threshold("below", 0),
        why="'more' gives a direction, no size; all blocks, as the caption says it of models",
        applies_when=TWO_SIZES,
        cases=cases.two_sizes_of_vit_on_less_and_more,
        measure=partial(farther_apart, of=("larger ViT", "smaller ViT")),
        stay_trained=(1, 3),
    ),
    claim(
        id="R-mixer",
        figure="H.1, H.2",
        statement="An MLP-Mixer is more like a ViT than like a CNN",
        measured_as="mean CKA (stem and blocks) of the Mixer with the ViT minus that with the CNN",
        threshold=Threshold("above", 0),
        why="'more like' gives a direction, no size",
        applies_when="an MLP-Mixer, a ViT and a CNN",
        cases=cases.mixer_vit_and_cnn,
        measure=mixer_is_like_vit,
    ),
)
