"""Claims on calibration."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import Claim, Threshold, of_metric
from zoo.measures.intervals import DIFFERENCE

CLAIMS = (
    Claim(
        id="G-overconfident",
        paper="Guo et al. 2017",
        figure="1",
        statement="A modern network is more confident than it is accurate",
        measured_as="mean confidence minus accuracy",
        threshold=Threshold("above", 0),
        why="overconfident means confidence above accuracy, beyond chance",
        applies_when="a model that answers the images' classes better than chance",
        analysis="calibration",
        cases=cases.each,
        measure=of_metric("calibration", "overconfidence", "confidence minus accuracy"),
        within=DIFFERENCE,
        answers=True,
    ),
)
