"""Claims on the similarity of layers (CKA)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zoo.claims import cases
from zoo.claims.base import RAGHU, ZHU, Claim, Measurement, Networks, metric
from zoo.models.spec import NO_SKIP
from zoo.study.results import ComparisonResults, Network, select

MATCH_SHARE = 0.5


def compare_within(what: str) -> Callable[[ComparisonResults, Networks], Measurement | None]:
    """Return a measure of the ViT's minus the CNN's value of one within-model metric."""

    def measure(results: ComparisonResults, networks: Networks) -> Measurement | None:
        vit, cnn = (metric(results, "cka", m, what) for m in networks)
        if vit is None or cnn is None:
            return None
        return Measurement(vit - cnn, vit > cnn, f"ViT {vit:.3f}, CNN {cnn:.3f}")

    return measure


def _between(
    results: ComparisonResults, a: Network, b: Network, *roles: str
) -> NDArray[np.float64] | None:
    """Return CKA (a's layers, b's layers) of layers with these roles; None with a gap, or empty."""
    cka = results.results["cka"].data["cka"]
    values = select(cka, a.name, b.name, role=roles, role_b=roles).values
    return values if values.size and np.isfinite(values).all() else None


def _across(results: ComparisonResults, a: Network, b: Network) -> NDArray[np.float64] | None:
    """Return CKA (a's layers, b's layers) of stem and blocks."""
    return _between(results, a, b, "stem", "block")


def lower_half_matches(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure how many of the CNN's lower layers match the ViT's lowest third best."""
    from zoo.measures.depth import third_of

    cka = _across(results, *networks)
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


def top_matches_nothing(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the best matches of the ViT's top third against its lowest third's."""
    from zoo.measures.depth import third_of

    cka = _across(results, *networks)
    if cka is None:
        return None
    third = third_of(len(cka))
    best = cka.max(axis=1)
    top, bottom = float(best[-third:].mean()), float(best[:third].mean())
    if bottom <= 0:
        return None
    detail = f"best match of the ViT's top third {top:.3f}, of its lowest third {bottom:.3f}"
    return Measurement(top / bottom, top < MATCH_SHARE * bottom, detail)


def _same_layer(results: ComparisonResults, a: Network, b: Network) -> NDArray[np.float64] | None:
    """Return the CKA of each block of one network with the same block of the other."""
    cka = select(results.results["cka"].data["cka"], a.name, b.name)
    if cka["name"].values.tolist() != cka["name_b"].values.tolist():
        return None
    values = np.diagonal(cka.values)[cka["role"].values == "block"]
    return values if values.size and np.isfinite(values).all() else None


def _shared_start(less: Network, more: Network) -> str:
    """Say that two networks began with the same weights, which by itself makes them alike."""
    same = less.seed == more.seed
    return "; networks on less and on more data start from the same weights" if same else ""


def farther_apart(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the likeness of equal blocks across data sizes, ViT minus CNN."""
    vit_less, vit_more, cnn_less, cnn_more = networks
    of_vit = _same_layer(results, vit_less, vit_more)
    of_cnn = _same_layer(results, cnn_less, cnn_more)
    if of_vit is None or of_cnn is None:
        return None
    vit, cnn = float(of_vit.mean()), float(of_cnn.mean())
    detail = f"block by block: ViT {vit:.3f}, CNN {cnn:.3f}"
    return Measurement(vit - cnn, vit < cnn, detail + _shared_start(vit_less, vit_more))


def lower_blocks_agree(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure the likeness of equal blocks across data sizes, lower minus higher half."""
    values = _same_layer(results, *networks)
    if values is None:
        return None
    half = len(values) // 2
    if half == 0:
        return "one block has no halves to compare"
    lower, higher = float(values[:half].mean()), float(values[-half:].mean())
    detail = f"block by block: lower half {lower:.3f}, higher half {higher:.3f}"
    return Measurement(lower - higher, lower > higher, detail + _shared_start(*networks))


def map_splits(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure CKA between the blocks before and after the changed one, without minus with skips."""
    match = NO_SKIP.match(networks[0].arch)
    if match is None:
        return None
    changed = int(match["block"])
    means = []
    for network in networks:
        cka = results.results["cka"].data["cka"]
        cka = select(cka, network.name, network.name, role="block", role_b="block")
        before, after = cka["block"].values < changed, cka["block_b"].values > changed
        if not before.any() or not after.any():
            return f"block {changed} of {networks[0].name} has no compared blocks on both its sides"
        cells = cka.values[np.ix_(before, after)]
        if not np.isfinite(cells).all():
            return None
        means.append(float(cells.mean()))
    detail = f"before with after block {changed}: {means[0]:.3f} without, {means[1]:.3f} with skips"
    return Measurement(means[0] - means[1], means[0] < means[1], detail)


def mixer_is_like_vit(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the mean CKA of the Mixer with the ViT minus that with the CNN."""
    mixer, vit, cnn = networks
    with_vit, with_cnn = _across(results, mixer, vit), _across(results, mixer, cnn)
    if with_vit is None or with_cnn is None:
        return None
    near, far = float(with_vit.mean()), float(with_cnn.mean())
    return Measurement(near - far, near > far, f"with the ViT {near:.3f}, with the CNN {far:.3f}")


CLAIMS = (
    Claim(
        id="Z-far",
        paper=ZHU,
        figure="CKA figures",
        statement="A ViT trained on little data is farther from one trained on much than CNNs are",
        measured_as="mean CKA of equal blocks, ViT pair minus CNN pair",
        threshold="below 0",
        why="'farther' is a sign, not a size",
        applies_when="a ViT and a CNN, each trained on the same smaller and larger subset",
        analysis="cka",
        cases=cases.both_on_less_and_more,
        measure=farther_apart,
        stay_trained=(1, 3),
    ),
    Claim(
        id="R-uniform",
        paper=RAGHU,
        figure="1",
        statement="A ViT's layers are more alike across depth than a CNN's",
        measured_as="mean CKA of different layers (stem and blocks) of the ViT minus the CNN's",
        threshold="above 0",
        why="the figure is read by eye; the sign is the least that it says",
        applies_when="a ViT and a CNN",
        analysis="cka",
        cases=cases.vit_and_cnn,
        measure=compare_within("mean_off_diagonal"),
    ),
    Claim(
        id="R-ends",
        paper=RAGHU,
        figure="1",
        statement="A ViT's lowest and highest layers are more alike than a CNN's",
        measured_as="mean CKA of the first with the last quarter of layers, ViT minus CNN",
        threshold="above 0",
        why="the figure is read by eye; the sign is the least that it says",
        applies_when="a ViT and a CNN",
        analysis="cka",
        cases=cases.vit_and_cnn,
        measure=compare_within("first_last_quarter"),
    ),
    Claim(
        id="R-lower-half",
        paper=RAGHU,
        figure="2, B.1",
        statement="The lower half of a CNN is most like the lowest third of a ViT",
        measured_as="share of the CNN's lower half of layers whose best match is in that third",
        threshold="above 0.5",
        why="'the lower half' means most of its layers",
        applies_when="a ViT and a CNN",
        analysis="cka",
        cases=cases.vit_and_cnn,
        measure=lower_half_matches,
    ),
    Claim(
        id="R-top",
        paper=RAGHU,
        figure="2, B.1",
        statement="The top third of a ViT is like nothing in a CNN",
        measured_as="mean best match of the ViT's top third over that of its lowest third",
        threshold="below 0.5",
        why="'like nothing' must at least mean half as alike as the depth that does match",
        applies_when="a ViT and a CNN",
        analysis="cka",
        cases=cases.vit_and_cnn,
        measure=top_matches_nothing,
    ),
    Claim(
        id="R-noskip-split",
        paper=RAGHU,
        figure="8",
        statement="Trained without a middle block's skips, a ViT's layers fall apart in two groups",
        measured_as="mean CKA of the blocks before with those after it, without minus with skips",
        threshold="below 0",
        why="a map that splits at the block is darker across it; how much is not said",
        applies_when="a ViT trained without a block's skips (`-noskip<i>`) and the whole one, on "
        "the same images",
        analysis="cka",
        cases=cases.without_skips_and_whole,
        measure=map_splits,
    ),
    Claim(
        id="R-low-agree",
        paper=RAGHU,
        figure="12",
        statement="A ViT's lower layers are found even with little data, higher ones need more",
        measured_as="mean CKA of equal blocks across data sizes, lower minus higher half of blocks",
        threshold="above 0",
        why="the figure falls with depth; the sign is the least that it says",
        applies_when="the same ViT trained on a smaller and a larger subset",
        analysis="cka",
        cases=cases.vit_on_less_and_more,
        measure=lower_blocks_agree,
        stay_trained=(1,),
    ),
    Claim(
        id="R-mixer",
        paper=RAGHU,
        figure="H.1, H.2",
        statement="An MLP-Mixer is more like a ViT than like a CNN",
        measured_as="mean CKA (stem and blocks) of the Mixer with the ViT minus that with the CNN",
        threshold="above 0",
        why="'more like' is a sign, not a size",
        applies_when="an MLP-Mixer, a ViT and a CNN",
        analysis="cka",
        cases=cases.mixer_vit_and_cnn,
        measure=mixer_is_like_vit,
    ),
)
