"""Claims on where networks differ."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import Claim, Threshold, of_metric
from zoo.measures.intervals import DIFFERENCE

CLAIMS = (
    Claim(
        id="G-consistent",
        paper="Geirhos et al. 2020",
        figure="abstract",
        statement="CNNs err on the same images, irrespective of architecture",
        measured_as="error consistency (κ) of two CNNs: 0 for independent errors, 1 for the same",
        threshold=Threshold("above", 0),
        why="'consistent with one another' means more than chance, which is κ = 0",
        applies_when="two CNNs",
        analysis="differences",
        cases=cases.two_cnns,
        measure=of_metric("differences", "error_consistency", "κ", ".3f"),
        within=DIFFERENCE,
    ),
)
