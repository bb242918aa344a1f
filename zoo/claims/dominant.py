"""Which claims on CKA rest on a few images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zoo.claims import in_seeds
from zoo.claims.base import UNDECIDED, Measurement, Verdict
from zoo.errors import listed
from zoo.study.replicates import WITHOUT
from zoo.study.results import ComparisonResults


def rest_on_few_images(results: ComparisonResults, verdicts: Sequence[Verdict]) -> list[str]:
    """Name the decided claims that are on the other side without images of highest leverage.

    Args:
        results: of the comparison.
        verdicts: on its claims.

    Returns:
        A sentence; none where no claim moves, or CKA was left out.
    """
    result = results.results.get("cka")
    if result is None or "cka_without_dominant" not in result.data:
        return []
    fewer = result.data.drop_vars(f"cka{WITHOUT}", errors="ignore")
    fewer = fewer.assign(cka=fewer["cka_without_dominant"])
    other = replace(results, results={**results.results, "cka": replace(result, data=fewer)})
    moved = []
    for verdict in verdicts:
        claim, found = verdict.claim, verdict.measurement
        if claim.analysis != "cka" or found is None or verdict.verdict == UNDECIDED:
            continue
        networks = tuple(results.network(name) for name in verdict.models)
        left, _ = in_seeds(claim.measure, other, networks, claim.stay_trained, within=claim.within)
        if not isinstance(left, Measurement):
            continue
        now, then = (claim.threshold.holds(one.value) for one in (left, found))
        if now != then:
            number = f"{left.value:.2g}".replace("-", "−")
            moved.append(f"{claim.id} ({number})")
    if not moved:
        return []
    return [
        f"Without the 5 % of images of highest leverage, {listed(moved)} would be on the other "
        "side of the threshold: a few images decide."
    ]
