"""The finding of a comparison: a few sentences, and the numbers that they rest on.

The sentences say first what is so: which network is more accurate, or that no difference can be
detected; which of them tells a linear probe less than raw pixels do; what training did to how alike
their layers are; what became of the papers' claims. A difference is named only where its 95 %
interval excludes 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from zoo.claims import in_seeds
from zoo.claims.base import (
    BUILT_IN,
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    Measurement,
    Networks,
    Verdict,
    measured,
)
from zoo.claims.probes import rated
from zoo.errors import counted, listed
from zoo.measures.intervals import Estimate, independent_difference
from zoo.study.replicates import draws_of
from zoo.study.results import (
    NO_ANSWER,
    ComparisonResults,
    Metric,
    Network,
    name_varying,
)
from zoo.study.seeds import accuracy_difference, mean_metric

SAID = {
    SUPPORTED: "supported",
    BUILT_IN: "built in (true before training as well)",
    UNDECIDED: "undecided",
    NOT_SUPPORTED: "not supported",
}
CHANCE = 0.05
UNTOLD = "Neither accuracy nor CKA was measured: the report shows what was."


def describe_finding(results: ComparisonResults, verdicts: Sequence[Verdict]) -> str:
    """Say in a few sentences what was found; what was not measured is not spoken of.

    After that come networks that were not rated, whose outputs are no numbers, or whose numbers no
    second run or no other batches will give, and images whose order biases CKA.
    """
    training = _over_pairs if len(results.compared) > 2 else _what_training_did
    said = (
        _accuracy(results), _behind_pixels(results), training(results), _claims(verdicts),
        *_not_numbers(results), *_not_rated(results), *_not_alone(results),
        *_sorted_images(results),
    )  # fmt: skip
    told = " ".join(sentence for sentence in said if sentence)
    return told or (UNTOLD if results.results else "")


def _not_alone(results: ComparisonResults) -> Iterator[str]:
    """Name the networks whose answers chance, or the other images of a batch, have a part in."""
    for network in results.compared:
        for said in name_varying(
            network.name,
            deterministic=network.deterministic,
            mixes_images=network.mixes_images,
        ):
            yield f"{said}."


def _not_numbers(results: ComparisonResults) -> Iterator[str]:
    """Name the networks whose answers are not numbers: each such image counts as wrong."""
    accuracy = results.results.get("accuracy")
    if accuracy is None or "predicted" not in accuracy.data:
        return
    predicted = accuracy.data["predicted"]
    for network, _ in of_networks(results, "accuracy", "accuracy"):
        if lost := int((predicted.sel(network=network.name) == NO_ANSWER).sum()):
            yield (
                f"The outputs of {network.name} are not numbers on {lost:,} of "
                f"{predicted.sizes['image']:,} images, which count as wrong."
            )


def _not_rated(results: ComparisonResults) -> Iterator[str]:
    """Name the networks without accuracy where others have one."""
    rated = {network.name for network, _ in of_networks(results, "accuracy", "accuracy")}
    if missing := [n.name for n in results.compared if rated and n.name not in rated]:
        notes = results.results["accuracy"].notes_on(missing)
        why = f" ({'; '.join(notes)})" if notes else ""
        yield f"The accuracy of {listed(missing)} was not measured{why}."


def _sorted_images(results: ComparisonResults) -> Iterator[str]:
    """Say that the images are sorted by class: estimates of CKA over batches are then biased."""
    cka = results.results.get("cka")
    if cka is not None and cka.data.attrs.get("sorted_by_class"):
        yield "The images are sorted by class, which biases CKA: shuffle them with their labels."


def of_networks(
    results: ComparisonResults, analysis: str, measure: str
) -> list[tuple[Network, Metric]]:
    """Return a metric of each compared network that has it, the mean over its seeds."""
    if analysis not in results.results:
        return []
    each = (
        (n, mean_metric(results, analysis, measure, results.seeds(n))) for n in results.compared
    )
    return [(network, metric) for network, metric in each if metric is not None]


def _accuracy(results: ComparisonResults) -> str:
    """Say which network is most accurate, or that none can be told, and the weakest class."""
    rated = sorted(
        of_networks(results, "accuracy", "accuracy"), key=lambda item: -item[1].value
    )  # in the order asked for where they tie
    if not rated:
        return ""
    names = [network.name for network, _ in rated]
    values = {network.name: 100 * metric.value for network, metric in rated}
    n = f"{results.images:,} images"
    weak = _weakest(results, names if len(names) <= 2 else names[-1:])
    if len(names) == 1:
        return f"{names[0]} classifies {values[names[0]]:.1f} % of {n} correctly{weak}."
    best, last = names[0], names[-1]
    over = _seeds_said(results, [best, last])
    gap = difference(results, best, last)
    if gap is None:
        rates = f"{best} classifies {values[best]:.1f} % correctly and {last} {values[last]:.1f} %"
        return f"Of {n}, {rates}{weak}."
    ends = f"95 % interval{over} {100 * gap.low:.1f} to {100 * gap.high:.1f}".replace("-", "−")
    uneven = unequal_seeds(results, best, last)
    size = f"{uneven}{'; ' * bool(uneven)}{100 * gap.value:.1f} points, {ends}"
    # Of the seeds that the difference is of, so that it is the difference of the two.
    sides = zip(*paired_seeds(results, best, last), strict=True)
    of_both = [mean_metric(results, "accuracy", "accuracy", side) for side in sides]
    rates = " against ".join(f"{100 * rate.value:.1f} %" for rate in of_both if rate)
    if not gap.low > 0:
        among = f"between {best} and {last}"
        if len(names) > 2:
            among = f"among {len(names)} models, not even {among}"
        return f"No detectable difference in accuracy {among} on {n}: {rates} ({size}){weak}."
    if len(names) == 2:
        return f"{best} is more accurate than {last} on {n}: {rates} ({size}){weak}."

    def level(pairs: Sequence[tuple[str, str]], other: int, words: str) -> str:
        gaps = {pair[other]: difference(results, *pair) for pair in pairs}
        return _not_apart([name for name, gap in gaps.items() if not (gap and gap.low > 0)], words)

    # The one selected as best needs no correction: Gutmann & Maymin 1987.
    ahead = level([(best, name) for name in names[1:]], 1, "ahead of")
    behind = level([(name, last) for name in names[-2::-1]], 0, "behind")
    return (
        f"Of {len(names)} models, {best} is the most accurate on {n} ({values[best]:.1f} %"
        f"{ahead}) and {last} the least ({values[last]:.1f} %{behind}){weak}."
    )


def _not_apart(level: Sequence[str], words: str) -> str:
    """Say of an extreme what it is not told apart from; nothing where it is from all."""
    if not level:
        return ""
    more = f" and {len(level) - 1} more" if len(level) > 1 else ""
    return f", not detectably {words} {level[0]}{more}"


def _behind_pixels(results: ComparisonResults) -> str:
    """Name the networks whose best layer tells a linear probe less than the raw pixels do."""
    probes = results.results.get("probes")
    pixels = probes.metric("pixels_accuracy") if probes else None
    if probes is None or pixels is None:
        return ""
    behind = [
        f"{network.name} ({100 * best.value:.1f} %)"
        for network, best in of_networks(results, "probes", "best_layer_accuracy")
        if independent_difference(rated(results, pixels), rated(results, best.value))[1] > 0
    ]
    if not behind:
        return ""
    return (
        f"A linear classifier fitted to the raw pixels of {probes.data.attrs['fit_images']:,} "
        f"images is right on {100 * pixels:.1f} % of the others, more than one that reads the best "
        f"layer of {' or of '.join(behind)}."
    )


def difference(results: ComparisonResults, a: str, b: str) -> Metric | None:
    """Return one network's accuracy minus another's, where it has an interval.

    It is over seeds where both have several.
    """
    pairs = [(one.name, other.name) for one, other in paired_seeds(results, a, b)]
    gap = accuracy_difference(results.results["accuracy"], pairs)
    return gap if gap and math.isfinite(gap.low) else None


def paired_seeds(results: ComparisonResults, a: str, b: str) -> list[tuple[Network, Network]]:
    """Return the seeds of two networks, paired in their order, as many as both have."""
    return [*zip(*(results.seeds(results.network(name)) for name in (a, b)), strict=False)]


def unequal_seeds(results: ComparisonResults, a: str, b: str) -> str:
    """Say of how many seeds the difference of two networks is; nothing where it is of all."""
    pairs = len(paired_seeds(results, a, b))
    if all(len(results.seeds(results.network(name))) == pairs for name in (a, b)):
        return ""
    return "one seed of each" if pairs == 1 else f"{pairs} seeds of each"


def _seeds_said(results: ComparisonResults, names: Sequence[str]) -> str:
    """Say that an interval of a difference is over seeds; nothing where one network has one."""
    counts = [len(results.seeds(results.network(name))) for name in names]
    return f" over {min(counts)} seeds" if min(counts) > 1 else ""


def _weakest(results: ComparisonResults, names: Sequence[str]) -> str:
    """Name the class that each network gets wrong most often, all its seeds together.

    Nothing of one where several classes tie.
    """
    data = results.results["accuracy"].data
    found: dict[str, tuple[str, float]] = {}
    for name in names:
        seeds = [network.name for network in results.seeds(results.network(name))]
        if "class_accuracy" not in data or not np.isin(seeds, data["network"].values).all():
            continue
        rates = data["class_accuracy"].sel(network=seeds).mean("network")
        if rates.notnull().sum() < 2:
            continue  # of one class there is no weakest
        lowest = rates.min().item()  # of the classes that have images
        at = np.flatnonzero(rates.values == lowest)
        if len(at) == 1:
            found[name] = str(data["class"].values[at[0]]), 100 * lowest
    classes = {label for label, _ in found.values()}
    if len(found) == 2 and len(classes) == 1:
        rates_said = " and ".join(f"{rate:.0f} %" for _, rate in found.values())
        return f"; both are weakest on class {classes.pop()} ({rates_said} right)"
    said = [
        f"{name} is weakest on class {label} ({rate:.0f} % right)"
        for name, (label, rate) in found.items()
    ]
    return f"; {', '.join(said)}" if said else ""


def similarity(
    results: ComparisonResults, a: Network, b: Network, name: str = "cka"
) -> tuple[Measurement, Measurement | None] | None:
    """Measure the mean CKA of two networks' layers, now and before training.

    Of one network with itself, of its different layers. None where nothing could be measured; the
    second is None where the weights of then are not known.
    """
    if "cka" not in results.results or name not in results.results["cka"].data:
        return None
    data = results.results["cka"].data

    def mean(_: ComparisonResults, networks: Networks) -> Measurement | None:
        one, other = networks[0], networks[-1]
        draws = draws_of(data, name, one.name, other.name)
        # Of one network with itself, the diagonal is 1 whatever was learnt.
        own = np.eye(draws.shape[1], draws.shape[2], dtype=bool) & (one.name == other.name)
        cells = np.isfinite(draws).all(axis=0) & ~own
        return measured(draws[:, cells].mean(axis=1), "") if cells.any() else None

    now, before = in_seeds(mean, results, (a,) if a == b else (a, b))
    return (now, before) if isinstance(now, Measurement) else None


def _what_training_did(results: ComparisonResults) -> str:
    """Say whether training made the layers of one network, or of two, more or less alike."""
    a, b = results.compared[0], results.compared[-1]
    if (found := similarity(results, a, b)) is None:
        return ""
    now, before = found
    layers = f"the layers of {' and '.join(dict.fromkeys((a.name, b.name)))}"
    mean = f"{now.value:.2f}{_no_better_than_chance(results, a, b)}"
    if before is None:
        return f"The mean CKA of {layers} is {mean}; before training it was not measured."
    how = f"(mean CKA {mean}, before training {before.value:.2f})"
    left = _beyond_pixels(results, a, b)
    change = now.minus(before)
    if not np.isfinite(change[1:]).all():
        return f"The effect of training on {layers} has no interval {how}.{left}"
    if turn := _direction(change):
        return (
            f"Training made {layers} {turn} {'alike' if a == b else 'like each other'} {how}.{left}"
        )
    return f"Training did not detectably change how alike {layers} are {how}.{left}"


def _beyond_pixels(results: ComparisonResults, a: Network, b: Network) -> str:
    """Say what is left of the CKA of two networks without what the pixels explain."""
    left = similarity(results, a, b, "cka_deconfounded") if a != b else None
    if left is None:
        return ""
    now, before = left
    chance = _no_better_than_chance(results, a, b, "best_match_deconfounded_p")
    said = f" Without what the pixels explain, {rounded(now.value)} is left{chance}"
    if before is None:
        return f"{said}."
    turn = _direction(now.minus(before))
    than = f"{turn} than" if turn else "not detectably different from"
    return f"{said}, {than} the {rounded(before.value)} before training."


def rounded(value: float, *, share: bool = False) -> str:
    """Write a number with two decimals, or a share with one decimal in per cent."""
    # + 0: no "−0.00"
    text = f"{round(100 * value, 1) + 0:.1f} %" if share else f"{round(value, 2) + 0:.2f}"
    return text.replace("-", "−")


def pixels_explain_most(results: ComparisonResults) -> bool:
    """Say whether less than half of the CKA of two networks is left without the pixels' share."""
    pair = results.compared
    found = [
        similarity(results, *pair, name) for name in ("cka", "cka_deconfounded") if len(pair) == 2
    ]
    known = [both[0].value for both in found if both]
    return len(known) == 2 and known[1] < known[0] / 2


def _direction(change: Estimate) -> str:
    """Say which way a change goes; nothing where its interval holds 0."""
    if change[1] > 0:
        return "more"
    return "less" if change[2] < 0 else ""


def _no_better_than_chance(
    results: ComparisonResults, a: Network, b: Network, p: str = "best_match_p"
) -> str:
    """Say so where the best matches of either are no better than those of permuted images."""
    found = [results.results["cka"].metric(p, *pair) for pair in
             ((a.name, b.name), (b.name, a.name))]  # fmt: skip
    known = [p for p in found if p is not None]
    alike = not known or max(known) < CHANCE
    return "" if alike else ", no better matched than with permuted images"


def _over_pairs(results: ComparisonResults) -> str:
    """Say which pairs are most and least alike, and of how many training changed that."""
    pairs: dict[str, Measurement] = {}
    turns: list[str] = []
    for a, b in combinations(results.compared, 2):
        if (found := similarity(results, a, b)) is None:
            continue
        now, before = found
        pairs[f"{a.name} and {b.name}"] = now
        if before is not None:
            turns.append(_direction(now.minus(before)))
    if len(pairs) < 2:
        return ""
    most, least = (pick(pairs, key=lambda pair: pairs[pair].value) for pick in (max, min))
    high, low = pairs[most], pairs[least]
    if _direction(high.minus(low)):
        order = sorted(pairs, key=lambda pair: -pairs[pair].value)
        alike = [pair for pair in order[1:] if not _direction(high.minus(pairs[pair]))]
        unlike = [pair for pair in order[-2::-1] if not _direction(low.minus(pairs[pair]))]
        said = f"Most alike are {most} (mean CKA {high.value:.2f}{_not_apart(alike, 'more than')})"
        said += f", least alike {least} ({low.value:.2f}{_not_apart(unlike, 'less than')})"
    else:
        said = "No pair is detectably more alike than another "
        said += f"(mean CKA {low.value:.2f} to {high.value:.2f})"
    if turns:
        counts = " and ".join(f"{turns.count(turn)} {turn} alike" for turn in ("more", "less"))
        said += f"; of {counted(len(turns), 'pair')}, training made {counts}"
    return f"{said}."


def _claims(verdicts: Sequence[Verdict]) -> str:
    tested = [verdict.verdict for verdict in verdicts if verdict.measurement]
    if not tested:
        return ""
    tests = counted(len(tested), "test")
    counts = [f"{tested.count(word)} {said}" for word, said in SAID.items() if word in tested]
    return f"{tests} of the papers' claims: {listed(counts)}."
