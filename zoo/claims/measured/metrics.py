"""Finding a model's or a pair's metric among the results of an analysis, and telling chance."""

from __future__ import annotations

import math

from zoo.analyses.base import Subject
from zoo.engine import Findings


def metric(findings: Findings, analysis: str, model: Subject, what: str) -> float | None:
    """Return a model's metric, or None where the analysis could not measure it."""
    return findings.results[analysis].metrics.get(f"{analysis}/{model.name}/{what}")


Estimate = tuple[float, float, float]  # a value and the ends of its 95 % interval


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return a minus b with its 95 % interval, from the intervals of both.

    They are taken for independent. Measured on the same images they mostly err together, which
    makes the interval wider than it need be.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures".

    >>> low, high = difference((0.5, 0.4, 0.6), (0.2, 0.1, 0.3))[1:]
    >>> round(low, 3), round(high, 3)
    (0.159, 0.441)
    """
    value = a[0] - b[0]
    below = math.hypot(a[0] - a[1], b[2] - b[0])
    above = math.hypot(a[2] - a[0], b[0] - b[1])
    return value, value - below, value + above
