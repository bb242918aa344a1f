"""Claims on calibration."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import Claim, Measurement, Networks
from zoo.study.results import ComparisonResults


def is_overconfident(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure a network's mean confidence minus its accuracy."""
    found = results.results["calibration"].find("overconfidence", networks[0].name)
    if found is None:
        return None
    detail = (
        f"confidence minus accuracy {found.value:+.3f}, 95 % interval {found.low:+.3f} to "
        f"{found.high:+.3f}"
    )
    return Measurement(found.value, found.low > 0, detail)


CLAIMS = (
    Claim(
        id="G-overconfident",
        paper="Guo et al. 2017",
        figure="1",
        statement="A modern network is more confident than it is accurate",
        measured_as="mean confidence minus accuracy",
        threshold="the 95 % interval lies above 0",
        why="'overconfident' is a sign that must not be chance",
        applies_when="a model that knows the classes of the images",
        analysis="calibration",
        cases=cases.each,
        measure=is_overconfident,
        stay_trained=None,
    ),
)
