"""Claims on attention: how concentrated it is, how far heads look, what local heads resemble."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.claims import cases
from zoo.claims.base import A_VIT, RAGHU, ZHU, Claim, Measurement, Networks, metric
from zoo.study.results import ComparisonResults, Network, select

LOW = HIGH = 2  # the paper shows the two lowest and the two highest layers


def attention_settles(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure attention entropy on less data minus that on more."""
    less, more = (metric(results, "attention-maps", m, "entropy") for m in networks)
    if less is None or more is None:
        return None
    detail = f"entropy over that of uniform attention: {less:.3f} on less data, {more:.3f} on more"
    return Measurement(less - more, less > more, detail)


def _shares(results: ComparisonResults, network: Network) -> NDArray[np.float64] | str | None:
    """Return heads' distances (layers, heads) over that of even attention."""
    result = results.results["attention-distance"]
    distances = select(result.data["distance"], network.name).dropna("head", how="all").values
    uniform = result.metric("uniform", network.name)
    if uniform is None or not distances.size or not np.isfinite(distances).all():
        return None
    if len(distances) < LOW + HIGH:
        return f"{network.name}: {len(distances)} layers have no {LOW} low and {HIGH} high"
    return np.asarray(distances / uniform)


def low_layers_mix(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure how many of the lowest layers hold a local head and one that is not."""
    from zoo.analyses.attention_distance import LOCAL

    shares = _shares(results, networks[0])
    if shares is None or isinstance(shares, str):
        return shares
    local = shares[:LOW] < LOCAL
    mixed = int((local.any(axis=1) & ~local.all(axis=1)).sum())
    counts = " and ".join(str(count) for count in local.sum(axis=1))
    detail = f"{counts} of {local.shape[1]} heads are local in the {LOW} lowest layers"
    return Measurement(mixed, mixed > 0, detail)


def low_layers_spread(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
    """Measure how much farther apart heads are in low layers than in high ones."""
    shares = _shares(results, networks[0])
    if shares is None or isinstance(shares, str):
        return shares
    spread = np.ptp(shares, axis=1)
    low, high = float(spread[:LOW].mean()), float(spread[-HIGH:].mean())
    detail = f"farthest minus nearest head: {low:.3f} in low layers, {high:.3f} in high ones"
    return Measurement(low - high, low > high, f"{detail}, of even attention's distance")


def high_layers_are_global(
    results: ComparisonResults, networks: Networks
) -> Measurement | str | None:
    """Measure the share of heads in the highest layers that are not local."""
    from zoo.analyses.attention_distance import LOCAL

    shares = _shares(results, networks[0])
    if shares is None or isinstance(shares, str):
        return shares
    wide = shares[-HIGH:] >= LOCAL
    detail = f"{int(wide.sum())} of {wide.size} heads of the {HIGH} highest layers are global"
    return Measurement(float(wide.mean()), bool(wide.all()), detail)


def low_layers_learn_local(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the number of local heads in the lowest layers on less data minus that on more."""
    less, more = (
        metric(results, "attention-distance", m, "low_layers_local_heads") for m in networks
    )
    if less is None or more is None:
        return None
    detail = f"local heads in the two lowest layers: {less:.0f} on less data, {more:.0f} on more"
    return Measurement(float(less - more), less < more, detail)


def local_heads_are_like_cnn(
    results: ComparisonResults, networks: Networks
) -> Measurement | str | None:
    """Measure the CKA of the most local heads with early CNN layers, minus the most global's."""
    from zoo.analyses.local_heads_figures import LEAST_RANGE

    result = results.results["local-heads"]
    pair = tuple(network.name for network in networks)
    reach, value = (result.metric(m, *pair) for m in ("distance_range", "local_minus_global"))
    patch = result.metric("patch", networks[0].name)
    if reach is None or value is None or patch is None:
        return None
    if reach < LEAST_RANGE * patch:
        return (
            f"the first layer's heads look equally far: local and global ones are {reach:.2f} "
            f"pixels apart, under half a patch of {patch:g}"
        )
    detail = f"CKA of local minus that of global heads {value:+.3f}, {reach:.1f} pixels apart"
    return Measurement(value, value > 0, detail)


CLAIMS = (
    Claim(
        id="Z-attention",
        paper=ZHU,
        figure="attention maps",
        statement="Trained on little data, a ViT's attention does not settle",
        measured_as="mean attention entropy (1: uniform) on less data minus on more data",
        threshold="above 0",
        why="attention that settles is concentrated: its entropy is lower",
        applies_when="the same ViT trained on a smaller and a larger subset",
        analysis="attention-maps",
        cases=cases.vit_on_less_and_more,
        measure=attention_settles,
        stay_trained=(1,),
    ),
    Claim(
        id="R-local-low",
        paper=RAGHU,
        figure="3",
        statement="With enough data, a ViT's low layers hold local and global heads together",
        measured_as="of the two lowest layers, how many hold a head nearer than half of even "
        "attention's distance (local) and one that is not",
        threshold="at least 1",
        why="'together' means both kinds in one layer; that it is so in each is not said",
        applies_when=A_VIT,
        analysis="attention-distance",
        cases=cases.vits_on_most_data,
        measure=low_layers_mix,
    ),
    Claim(
        id="R-local-spread",
        paper=RAGHU,
        figure="3",
        statement="With enough data, heads differ more in a ViT's low layers than in its high ones",
        measured_as="farthest minus nearest head over even attention's distance, mean of the two "
        "lowest minus mean of the two highest layers",
        threshold="above 0",
        why="the lines of low layers climb and those of high ones are flat: a sign",
        applies_when=A_VIT,
        analysis="attention-distance",
        cases=cases.vits_on_most_data,
        measure=low_layers_spread,
    ),
    Claim(
        id="R-global-high",
        paper=RAGHU,
        figure="3",
        statement="With enough data, all heads of a ViT's high layers are global",
        measured_as="share of heads of the two highest layers that look at least half as far as "
        "even attention",
        threshold="equal to 1",
        why="'all' is the paper's word; half of even attention is where local ends",
        applies_when=A_VIT,
        analysis="attention-distance",
        cases=cases.vits_on_most_data,
        measure=high_layers_are_global,
    ),
    Claim(
        id="R-local-data",
        paper=RAGHU,
        figure="4",
        statement="With little data, a ViT's low layers do not learn to be local",
        measured_as="local heads in the two lowest layers, on less data minus on more data",
        threshold="below 0",
        why="what more data teaches and less does not are local heads: fewer of them, a sign",
        applies_when="the same ViT trained on a smaller and a larger subset",
        analysis="attention-distance",
        cases=cases.vit_on_less_and_more,
        measure=low_layers_learn_local,
        stay_trained=(1,),
    ),
    Claim(
        id="R-local-heads",
        paper=RAGHU,
        figure="5",
        statement="A ViT's local heads resemble a CNN's early layers more than its global ones do",
        measured_as="CKA of the most local half of the first layer's heads minus that of the most "
        "global half, mean over the CNN's early layers",
        threshold="above 0",
        why="'more' is a sign; halves that look less than half a patch apart are not told apart",
        applies_when="a ViT and a CNN",
        analysis="local-heads",
        cases=cases.vit_and_cnn,
        measure=local_heads_are_like_cnn,
    ),
)
