"""An answer to each question of the page, made of measured numbers and verdicts alone.

A function a question; each returns sentences, and none for what was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from zoo.claims.base import BUILT_IN, SUPPORTED
from zoo.claims.decide import STRENGTHENED, UNDONE, WEAKENED
from zoo.measures.depth import third_of
from zoo.report.filters import format_estimate
from zoo.report.finding import difference, of_networks
from zoo.study.axes import select
from zoo.study.results import ComparisonResults, Metric, Network, Result
from zoo.study.seeds import mean_metric, untrained_metric

Claims = Sequence[Mapping[str, Any]]
# As docs/gap.md has it.
GAP_STUDY = (
    "The gap study (docs/gap.md) trained a ViT and a CNN of 0.3 M parameters on photographs, with "
    "three seeds. After 1,500 steps on 500, 1,000 and 5,000 of them, a convolutional tokenizer "
    "closed 76 % (19 % to 129 %), 74 % (35 % to 95 %) and 85 % (61 % to 103 %) of their gap. "
    "Tokenizer, mimetic initialisation and schedule together closed 113 % (93 % to 135 %), 113 % "
    "(70 % to 224 %) and 103 % (94 % to 118 %), and 70 % (32 % to 106 %) after 7,500 steps on "
    "5,000. Three seeds showed no gain from a schedule alone. For your images: "
    "make study NAME=gap-long ROOT=FOLDER."
)


def answer(question: str, results: ComparisonResults, claims: Claims) -> list[str]:
    """Return the answer to a question of `zoo.report.questions`, as sentences."""
    return [sentence for sentence in ANSWERS[question](results, claims) if sentence]


def _right(results: ComparisonResults, claims: Claims) -> Iterable[str]:
    """Say how many images all, some and none of the networks classify correctly."""
    found = results.results.get("accuracy")
    if found is None or not found.networks:
        return
    names = [n.name for n in results.compared if n.name in found.networks]
    data = found.data.sel(network=names)
    right = data["predicted"].values == data["label"].values
    n, hits = right.shape[1], right.sum(axis=0)
    if len(names) == 1:
        yield f"{names[0]} is right on {hits.sum():,} of {n:,} images."
        return
    seeds = [results.seeds(results.network(name)) for name in names]
    many = any(len(of) > 1 for of in seeds)
    taken = f"{n:,} images, {'in one seed of each, ' if many else ''}"
    every, none = int((hits == len(names)).sum()), int((hits == 0).sum())
    if len(names) > 2:
        yield (f"Of {taken}all {len(names)} models are right on {every:,} and none on {none:,}.")
        return
    alone = [int((right[i] & ~right[1 - i]).sum()) for i in (0, 1)]
    yield (
        f"Of {taken}both models are right on {every:,}, only {names[0]} on {alone[0]:,}, "
        f"only {names[1]} on {alone[1]:,} and neither on {none:,}."
    )
    kappa = found.find("error_consistency", *names)
    if kappa:
        yield (
            f"They are wrong on the same images {_than_chance(kappa)} two independent models of "
            f"their accuracy would be (error consistency κ {_written(kappa)})."
        )


def _than_chance(kappa: Metric) -> str:
    if kappa.low > 0:
        return "more often than"
    return (
        "less often than" if kappa.high < 0 else "neither more nor less often, beyond noise, than"
    )


def _look(results: ComparisonResults, claims: Claims) -> Iterable[str]:
    """Say how far the first block sees and how even attention is, beside the untrained networks."""
    reach = _beside_untrained(results, "receptive-field", "radius90_first_block", "{:.0f} %", 100)
    if reach:
        yield (
            "The receptive field of the first block covers this share of the way from the image's "
            f"centre to a corner: {reach}."
        )
    even = _beside_untrained(results, "attention-maps", "entropy", "{:.1f} %", 100)
    if even:
        yield (
            "Entropy of attention, as a share of its maximum (equal attention to every token): "
            f"{even}."
        )


def _beside_untrained(
    results: ComparisonResults, analysis: str, measure: str, form: str, times: float
) -> str:
    """Return a metric of each compared network and of the same untrained, in words.

    Of several seeds it is the mean.
    """
    found = results.results.get(analysis)
    said = []
    for network in results.compared if found else ():
        value = mean_metric(results, analysis, measure, results.seeds(network))
        if value is None:
            continue
        before = untrained_metric(results, analysis, measure, network)
        untrained = f" (untrained {form.format(times * before.value)})" if before else ""
        said.append(f"{network.name} {form.format(times * value.value)}{untrained}")
    return ", ".join(said)


def _layers(results: ComparisonResults, claims: Claims) -> Iterable[str]:
    """Say where in depth each of two networks finds its like in the other."""
    found = results.results.get("cka")
    if found is None:
        return
    if len(results.compared) == 2:
        for one, other in (results.compared, results.compared[::-1]):
            trained = _matches(found, one, other)
            if trained is None:
                continue
            untrained = _matches(found, results.initial(one), other)
            before = (
                ""
                if untrained is None
                else f" (untrained {untrained[0]:.2f} and {untrained[1]:.2f})"
            )
            shown = "In one seed, the" if len(results.seeds(one)) > 1 else "The"
            yield (
                f"{shown} lowest third of {one.name}'s layers finds its best match in {other.name} "
                f"at a mean CKA of {trained[0]:.2f}, the highest third at {trained[1]:.2f}{before}."
            )
    else:
        within = _beside_untrained(results, "cka", "mean_off_diagonal", "{:.2f}", 1)
        if within:
            yield f"The mean CKA of different layers of one network: {within}."


def _matches(found: Result, a: Network | None, b: Network) -> tuple[float, float] | None:
    """Return the mean best match of the lowest and of the highest third of a's layers in b."""
    if a is None:
        return None
    inner = ("stem", "block")
    cka = select(found.data["cka"], a.name, b.name, role=inner, role_b=inner).values
    if min(cka.shape) < 2 or not np.isfinite(cka).all():
        return None
    best, third = cka.max(axis=1), third_of(len(cka))
    return float(best[:third].mean()), float(best[-third:].mean())


def _learnt(results: ComparisonResults, claims: Claims) -> Iterable[str]:
    """Name what training brought, what held before it, and what it reversed."""
    held = [claim for claim in claims if claim["verdict"] == SUPPORTED]
    built = [claim for claim in claims if claim["verdict"] == BUILT_IN]
    told = {
        "Training brought this": [c for c in held if c["before"] and c["reason"] != STRENGTHENED],
        "True for answers that only trained networks give": [c for c in held if not c["before"]],
        "True before training as well, and strengthened by training": [
            c for c in held if c["reason"] == STRENGTHENED
        ],
        "True before training as well": [c for c in built if c["reason"] != WEAKENED],
        "True before training as well, but weakened by training": [
            c for c in built if c["reason"] == WEAKENED
        ],
        "True before training, but no longer": [c for c in claims if c["reason"] == UNDONE],
    }
    for words, found in told.items():
        said = dict.fromkeys(
            _lowered(claim["statement"]) + _asked_of(claim, claims) for claim in found
        )
        if said:
            yield f"{words}: {'; '.join(said)}."
    best = _beside_untrained(results, "probes", "best_layer_accuracy", "{:.1f} %", 100)
    if best:
        pixels = results.results["probes"].metric("pixels_accuracy")
        bare = "" if pixels is None else f", on raw pixels alone {100 * pixels:.1f} %"
        yield f"A linear probe at the best layer of each network is right on: {best}{bare}."


def _asked_of(claim: Mapping[str, Any], claims: Claims) -> str:
    """Name a claim's models where it holds for these and not for others."""
    verdicts = {each["verdict"] for each in claims if each["statement"] == claim["statement"]}
    return f" ({', '.join(claim['models'])})" if len(verdicts) > 1 else ""


def _lowered(statement: str) -> str:
    """Return a statement as the part of a sentence."""
    if statement[1].isupper():  # CNNs
        return statement
    return statement[0].lower() + statement[1:]


def _gap(results: ComparisonResults, claims: Claims) -> Iterable[str]:
    """Say how large the gap is, what more data changed, and what is read but not used."""
    rates = of_networks(results, "accuracy", "accuracy")
    rated = {network.name: network for network, _ in rates}
    if len(rated) < 2:
        return
    (best, _), *_, (last, _) = sorted(rates, key=lambda item: -item[1].value)
    yield _compared(results, best.name, last.name)
    for less, more in permutations(rated.values(), 2):
        same = (less.arch, less.kwargs, less.source) == (more.arch, more.kwargs, more.source)
        if same and 0 < less.images < more.images:
            yield (
                f"Trained on {more.images:,} images instead of {less.images:,}: "
                f"{_compared(results, more.name, less.name)}"
            )
    trained = [
        f"{model['name']} {100 * model['metrics']['train/accuracy']:.1f} %"
        for model in results.provenance.get("models", ())
        if "train/accuracy" in model["metrics"]
    ]
    if trained:
        one = " in one seed" if any(len(results.seeds(n)) > 1 for n in results.compared) else ""
        yield f"Accuracy on their own training images{one}: {', '.join(trained)}."
    yield "Only training can show what would close it; a comparison does not train."
    if {"vit", "cnn"} <= {network.family for network in rated.values()}:
        yield GAP_STUDY


def _compared(results: ComparisonResults, a: str, b: str) -> str:
    """Say which of two networks is the more accurate, where that is not chance."""
    gap = difference(results, a, b)
    if gap is not None and gap.high < 0:
        a, b, gap = b, a, difference(results, b, a)
    if gap is None:
        return ""
    points = _written(gap, times=100)
    if gap.low > 0:
        return f"{a} is {points} percentage points more accurate than {b}."
    return f"{a} and {b} do not differ detectably in accuracy: {points} percentage points."


def _written(metric: Metric, times: float = 1) -> str:
    value, interval = format_estimate(times * metric.value, times * metric.low, times * metric.high)
    return f"{value} ({interval})" if interval else value


ANSWERS: dict[str, Callable[[ComparisonResults, Claims], Iterable[str]]] = {
    "right": _right,
    "look": _look,
    "layers": _layers,
    "learnt": _learnt,
    "gap": _gap,
}
