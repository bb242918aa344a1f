"""Claims on attention: how concentrated it is, how far heads look, what local heads resemble."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims import cases
from zoo.claims.base import (
    A_VIT,
    RAGHU,
    ZHU,
    Claim,
    Draws,
    Measurement,
    Networks,
    Threshold,
    measured,
    of_two,
)
from zoo.measures.counts import above, count_draws, difference_draws, on_both_sides
from zoo.measures.intervals import DIFFERENCE, SHARE
from zoo.measures.ranges import range_draws
from zoo.measures.replicates import Replicates
from zoo.study.attention_layers import LOCAL
from zoo.study.replicates import replicates_of
from zoo.study.results import ComparisonResults, Network

LOW = HIGH = 2  # the paper shows the two lowest and the two highest layers


def mean_entropy(results: ComparisonResults, network: Network) -> Draws | None:
    """Return attention's mean entropy over that of uniform attention, (1 + draws,)."""
    entropy = _heads(results, "attention-maps", "normalised_entropy", network)
    return None if entropy is None else entropy.draws().mean(axis=(1, 2))


def _heads(
    results: ComparisonResults, analysis: str, name: str, network: Network
) -> Replicates | None:
    """Return a number of each head, (layers, heads); None with a gap."""
    found = replicates_of(results.results[analysis].data, name, network.name)
    heads = np.isfinite(found.whole).any(axis=0)  # others have more
    found = found.map(lambda values: values[:, heads])
    return found if found.whole.size and found.is_finite else None


def _shares(results: ComparisonResults, network: Network) -> Replicates | str | None:
    """Return heads' distances over that of even attention, (layers, heads)."""
    distances = _heads(results, "attention-distance", "distance", network)
    uniform = results.results["attention-distance"].metric("uniform", network.name)
    if uniform is None or distances is None:
        return None
    if (layers := len(distances.whole)) < LOW + HIGH:
        return f"{network.name}: {layers} layers have no {LOW} low and {HIGH} high"
    return distances.map(lambda values: values / uniform)


def low_layers_mix(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure how many of the lowest layers hold a local head and one that is not."""
    shares = _shares(results, networks[0])
    if shares is None or isinstance(shares, str):
        return shares
    local = shares.whole[:LOW] < LOCAL
    mixed = int((local.any(axis=1) & ~local.all(axis=1)).sum())
    tests = [on_both_sides(layer) for layer in above(shares, LOCAL)[:LOW]]
    counts = " and ".join(str(count) for count in local.sum(axis=1))
    detail = f"{counts} of {local.shape[1]} heads are local in the {LOW} lowest layers"
    return measured(count_draws(mixed, tests), detail, count=True)


def low_layers_spread(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure how much farther apart heads are in low layers than in high ones."""
    shares = _shares(results, networks[0])
    if shares is None or isinstance(shares, str):
        return shares
    low, high = (range_draws(at).mean(axis=1) for at in (shares[:LOW], shares[-HIGH:]))
    detail = (
        f"farthest minus nearest head: {low[0, 0]:.3f} in low layers, {high[0, 0]:.3f} in high "
        "ones, of even attention's distance"
    )
    return measured(low - high[:, ::-1], detail)


def high_layers_are_global(
    results: ComparisonResults, networks: Networks
) -> Measurement | str | None:
    """Measure the share of heads in the highest layers that are not local."""
    shares = _shares(results, networks[0])
    if shares is None or isinstance(shares, str):
        return shares
    count, heads = int((shares.whole[-HIGH:] >= LOCAL).sum()), shares.whole[-HIGH:].size
    tests = above(shares, LOCAL)[-HIGH:].reshape(heads, 2)
    detail = f"{count} of {heads} heads of the {HIGH} highest layers are global"
    return measured(count_draws(count, tests) / heads, detail, heads)


def low_local_heads(results: ComparisonResults, network: Network) -> Draws | str | None:
    """Return the number of local heads in the lowest layers and its draws, (1 + draws,)."""
    shares = _shares(results, network)
    if shares is None or isinstance(shares, str):
        return shares
    local = above(shares, LOCAL)[:LOW, :, ::-1].reshape(-1, 2)
    return count_draws((shares.whole[:LOW] < LOCAL).sum(), local)


def local_heads_are_like_cnn(
    results: ComparisonResults, networks: Networks
) -> Measurement | str | None:
    """Measure the CKA of the most local heads with early CNN layers, minus the most global's."""
    from zoo.analyses.local_heads_figures import LEAST_RANGE

    result = results.results["local-heads"]
    pair = tuple(network.name for network in networks)
    reach, found = result.metric("distance_range", *pair), result.find("local_minus_global", *pair)
    patch = result.metric("patch", networks[0].name)
    if reach is None or found is None or patch is None:
        return None
    if reach < LEAST_RANGE * patch:
        return (
            f"the first layer's heads look equally far: local and global ones are {reach:.2f} "
            f"pixels apart, under half a patch of {patch:g}"
        )
    detail = f"CKA of local minus that of global heads {found.value:+.3f}, {reach:.1f} pixels apart"
    return Measurement(found.value, detail, found.low, found.high)


claim = partial(Claim, analysis="attention-distance", paper=RAGHU)
CLAIMS = (
    Claim(
        id="Z-attention",
        paper=ZHU,
        figure="attention maps",
        statement="Trained on little data, a ViT's attention does not settle",
        measured_as="mean attention entropy (1: uniform) on less data minus on more data",
        threshold=Threshold("above", 0),
        why="attention that settles is concentrated: its entropy is lower",
        applies_when="the same ViT trained on a smaller and a larger subset",
        analysis="attention-maps",
        cases=cases.vit_on_less_and_more,
        measure=of_two(
            mean_entropy,
            "entropy over that of uniform attention: {first:.3f} on less data, {second:.3f} on "
            "more",
        ),
        within=DIFFERENCE,
    ),
    claim(
        id="R-local-low",
        figure="3",
        statement="With enough data, a ViT's low layers hold local and global heads together",
        measured_as="of the two lowest layers, how many hold a head nearer than half of even "
        "attention's distance (local) and one that is not",
        threshold=Threshold("at least", 1),
        why="'together' means both kinds in one layer; the paper does not say in each",
        applies_when=A_VIT,
        cases=cases.vits_on_most_data,
        measure=low_layers_mix,
    ),
    claim(
        id="R-local-spread",
        figure="3",
        statement="With enough data, heads differ more in a ViT's low layers than in its high ones",
        measured_as="farthest minus nearest head over even attention's distance, mean of the two "
        "lowest minus mean of the two highest layers",
        threshold=Threshold("above", 0),
        why="in the figure, lines of low layers climb and those of high ones are flat",
        applies_when=A_VIT,
        cases=cases.vits_on_most_data,
        measure=low_layers_spread,
    ),
    claim(
        id="R-global-high",
        figure="3",
        statement="With enough data, all heads of a ViT's high layers are global",
        measured_as="share of heads of the two highest layers that look at least half as far as "
        "even attention",
        threshold=Threshold("at least", 1),
        why="'all' is the paper's word; a head counts as local below half of even attention",
        applies_when=A_VIT,
        cases=cases.vits_on_most_data,
        measure=high_layers_are_global,
        within=SHARE,
    ),
    claim(
        id="R-local-data",
        figure="4",
        statement="With little data, a ViT's low layers do not learn to be local",
        measured_as="local heads in the two lowest layers, on less data minus on more data",
        threshold=Threshold("below", 0),
        why="more data teaches local heads, so with less there must be fewer",
        applies_when="the same ViT trained on a smaller and a larger subset",
        cases=cases.vit_on_less_and_more,
        measure=of_two(
            low_local_heads,
            "local heads in the two lowest layers: {first:.0f} on less data, {second:.0f} on more",
            difference_draws,
            count=True,
        ),
    ),
    Claim(
        id="R-local-heads",
        paper=RAGHU,
        figure="5",
        statement="A ViT's local heads resemble a CNN's early layers more than its global ones do",
        measured_as="CKA of the most local half of the first layer's heads minus that of the most "
        "global half, mean over the CNN's early layers",
        threshold=Threshold("above", 0),
        why="'more' gives a direction, no size; halves must look at least half a patch apart",
        applies_when="a ViT and a CNN",
        analysis="local-heads",
        cases=cases.vit_and_cnn,
        measure=local_heads_are_like_cnn,
    ),
)
