"""From a claim's number, its interval, and the same before training, to a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from zoo.claims.base import (
    BUILT_IN,
    NOT_SUPPORTED,
    SEEDS,
    SUPPORTED,
    UNDECIDED,
    Measurement,
    Threshold,
    Verdict,
)
from zoo.measures.intervals import ROUNDING, Estimate
from zoo.measures.multiple_testing import holm, p_from_interval, student_p
from zoo.measures.replicates import percentile_p

LEVEL = 0.05
OTHER_SIDE = "beyond noise on the other side of the threshold"
WEAKENED = "it holds, and held before training, which weakened it"
STRENGTHENED = "it holds, and held before training, which strengthened it"
UNDONE = f"it held before training, which reversed it: {OTHER_SIDE}"


def decide(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Decide all claims of a comparison that have a number, corrected for how many there are."""
    tests = [
        p_against(verdict.measurement, verdict.claim.threshold) if verdict.measurement else math.nan
        for verdict in verdicts
    ]
    decided = []
    for verdict, p, corrected in zip(verdicts, tests, holm(tests), strict=True):
        if verdict.measurement is None:
            decided.append(verdict)
            continue
        known = replace(verdict, p=p, p_holm=float(corrected))
        word, reason = verdict_of(
            verdict.claim.threshold,
            verdict.measurement,
            verdict.before,
            verdict.change,
            known.p_holm,
            alone=verdict.alone,
        )
        decided.append(replace(known, verdict=word, reason=reason))
    return decided


def p_against(found: Measurement, threshold: Threshold) -> float:
    """Return the p-value of a number against its threshold; NaN where it has no interval."""
    # Where the bound itself counts, the interval must only not reach below it.
    bound = threshold.bound - ROUNDING if threshold.side == "at least" else threshold.bound
    if found.over == SEEDS:  # few seeds: the tails are far heavier than the interval tells
        return student_p(found.by_seed, bound)
    if found.by_steps and found.draws is not None:
        # What is of few parts moves by steps, which no normal distribution does.
        return percentile_p(found.draws, bound)
    return p_from_interval(found.estimate, bound)


def verdict_of(
    threshold: Threshold,
    found: Measurement,
    before: Measurement | None,
    change: Estimate | None,
    p: float,
    *,
    alone: bool = False,
) -> tuple[str, str]:
    """Return a verdict and what decided it.

    Args:
        threshold: what the claim's number must be.
        found: the number of the trained networks.
        before: the same before training; None where it is not known.
        change: trained minus before, with its interval.
        p: of the number against its threshold, corrected for several tests.
        alone: untrained networks have no such number, and a claim that holds is supported.

    Returns:
        `undecided` where the interval includes the threshold, or there is none; `not supported`
        where it lies on the other side. Else the claim holds beyond noise: it is `supported` where
        training brought that or increased it (the interval of the change lies beyond 0 in the
        claim's direction), `built in` where it held before training as well and did not grow, and
        `undecided` where neither is known.
    """
    if not math.isfinite(p):
        return UNDECIDED, "no interval says how far chance reaches"
    if p >= LEVEL:
        side = "beyond" if threshold.holds(found.value) else "on the other side of"
        but = f"{side} the threshold, but not after correction for several tests"
        uncorrected = p_against(found, threshold) < LEVEL
        return UNDECIDED, but if uncorrected else "the interval includes the threshold"
    if not threshold.holds(found.value):
        return NOT_SUPPORTED, UNDONE if _held(threshold, before) else OTHER_SIDE
    if alone:
        return SUPPORTED, "it holds beyond noise, of networks that answer better than chance"
    return _brought_by_training(threshold, before, change)


def _held(threshold: Threshold, before: Measurement | None) -> bool:
    """Say whether a claim held before training, beyond noise."""
    return (
        before is not None
        and threshold.holds(before.value)
        and p_against(before, threshold) < LEVEL
    )


def _brought_by_training(
    threshold: Threshold, before: Measurement | None, change: Estimate | None
) -> tuple[str, str]:
    if before is None or change is None:
        return UNDECIDED, "it holds beyond noise; what it was before training is not measured"
    low, high = sorted(threshold.sign * end for end in change[1:])
    if low > 0:
        moved = "it holds beyond noise, and training moved it this way"
        return SUPPORTED, STRENGTHENED if _held(threshold, before) else moved
    if _held(threshold, before):
        if high < 0:
            return BUILT_IN, WEAKENED
        return (
            BUILT_IN,
            "it held before training as well; there is no sign that training added to it",
        )
    return UNDECIDED, "it holds beyond noise; that training moved it this way is not shown"
