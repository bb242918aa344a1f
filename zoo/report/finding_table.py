"""The numbers behind a finding, as one small table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.claims.base import format_p
from zoo.report.finding import difference, of_networks, rounded, similarity, unequal_seeds
from zoo.study.results import ComparisonResults, Metric, Network
from zoo.study.seeds import deviation, more_accurate, untrained_metric

# Of every network: analysis, measure, its name in the table, and whether it is a share.
OF_EACH = (
    ("accuracy", "accuracy", "accuracy", True),
    ("cka", "mean_off_diagonal", "mean CKA of its different layers", False),
    ("attention-maps", "entropy", "entropy of attention over that of uniform attention", True),
    ("receptive-field", "radius90_first_block", "reach of the first block, centre to corner", True),
)


@dataclass(frozen=True)
class Number:
    """A row of the table: a measure, of which network or pair, as text for people."""

    measure: str
    of: str
    value: str
    interval: str = ""
    before: str = ""


def numbers(results: ComparisonResults) -> list[Number]:
    """Return the numbers behind the sentences; of more than two, the lowest and the highest."""
    rows: list[Number] = []
    for analysis, measure, words, share in OF_EACH:
        if analysis not in results.results:
            continue
        found = of_networks(results, analysis, measure)
        for network, metric, end in _ends(found):
            before = untrained_metric(results, analysis, measure, network)
            spread = deviation(results, analysis, measure, results.seeds(network))
            rows.append(
                Number(
                    words + end,
                    network.name,
                    rounded(metric.value, share=share)
                    + ("" if spread is None else f" ± {rounded(spread, share=share)}"),
                    _interval(metric.low, metric.high, share),
                    rounded(before.value, share=share) if before else "",
                )
            )
        if measure == "accuracy" and len(found) == 2:
            a, b = (network for network, _ in sorted(found, key=lambda item: -item[1].value))
            rows += _difference_row(results, a.name, b.name)
            if better := more_accurate(results, a, b):
                value, *ends = better
                what = "probability that a seed of the first is more accurate"
                rows.append(
                    Number(what, f"{a.name}, {b.name}", rounded(value), _interval(ends[0], ends[1]))
                )
    return rows + _pair_rows(results)


def _ends(found: list[tuple[Network, Metric]]) -> list[tuple[Network, Metric, str]]:
    """Return all of one or two; of more, the lowest and the highest, and words that say so."""
    if len(found) <= 2:
        return [(*each, "") for each in found]
    ends = ((min, "lowest"), (max, "highest"))
    return [
        (*pick(found, key=lambda item: item[1].value), f", {word} of {len(found)}")
        for pick, word in ends
    ]


def _difference_row(results: ComparisonResults, a: str, b: str) -> list[Number]:
    gap = difference(results, a, b)
    if gap is None:
        return []
    if gap.value < 0:
        a, b, gap = b, a, gap.turned() or gap
    # In points: "%" of a difference might be taken for a share of one of the two.
    points = 100 * gap.value, 100 * gap.low, 100 * gap.high
    value, low, high = (f"{round(end, 1) + 0:.1f}".replace("-", "−") for end in points)
    of = f"{a} − {b}"
    uneven = unequal_seeds(results, a, b)
    words = f"accuracy, difference ({uneven})" if uneven else "accuracy, difference"
    return [Number(words, of, f"{value} points", f"{low} to {high} points")]


def _pair_rows(results: ComparisonResults) -> list[Number]:
    """Return how alike two networks are, beside what pixels explain and what chance gives."""
    if len(results.compared) != 2 or "cka" not in results.results:
        return []
    a, b = results.compared
    rows = []
    for name, words in (
        ("cka", "mean CKA over all pairs of layers"),
        ("cka_deconfounded", "the same without what the pixels explain"),
    ):
        if (pair := similarity(results, a, b, name)) is None:
            continue
        now, before = pair
        start = rounded(before.value) if before else ""
        of = f"{a.name} × {b.name}"
        rows.append(Number(words, of, rounded(now.value), _interval(now.low, now.high), start))
    cka = results.results["cka"]
    for one, other in ((a.name, b.name), (b.name, a.name)):
        best, chance, p = (
            cka.metric(measure, one, other)
            for measure in ("mean_best_match", "best_match_permuted", "best_match_p")
        )
        if best is not None and chance is not None:
            seed = "one seed; " if len(results.seeds(a)) > 1 else ""
            words = (
                f"CKA of best matches ({seed}images permuted: {rounded(chance)}, p {format_p(p)})"
            )
            rows.append(Number(words, f"{one} in {other}", rounded(best)))
    return rows


def _interval(low: float, high: float, share: bool = False) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{rounded(low, share=share)} to {rounded(high, share=share)}"
