"""Claims on calibration."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import Claim, Measurement, Networks, above, of_metric
from zoo.measures.intervals import DIFFERENCE
from zoo.study.results import ComparisonResults


def is_overconfident(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure a network's mean confidence minus its accuracy."""
    found = results.results["calibration"].find("overconfidence", networks[0].name)
    return of_metric(found, "confidence minus accuracy")


CLAIMS = (
    Claim(
        id="G-overconfident",
        paper="Guo et al. 2017",
        figure="1",
        statement="A modern network is more confident than it is accurate",
        measured_as="mean confidence minus accuracy",
        threshold=above(0),
        why="'overconfident' is a sign that must not be chance",
        applies_when="a model that answers the images' classes better than chance",
        analysis="calibration",
        cases=cases.each,
        measure=is_overconfident,
        within=DIFFERENCE,
        answers=True,
    ),
)
