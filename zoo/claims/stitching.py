"""Claims on stitching."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import Claim, Measurement, Networks, Threshold, of_metric
from zoo.measures.intervals import DIFFERENCE
from zoo.study.results import ComparisonResults


def more_data_plugs_in(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure what the network on less data gains from features of the one on more."""
    less, more = networks
    words = f"accuracy of {less.name} on features of {more.name} minus its own"
    return of_metric("stitching", "gained_same_depth", words)(results, (more, less))


CLAIMS = (
    Claim(
        id="B-more",
        paper="Bansal et al. 2021",
        figure="1",
        statement="Features learnt from more data can be plugged into a network trained on less "
        "and improve it",
        measured_as="accuracy of the network on less data when it goes on from blocks of the one "
        "on more, minus its own, mean over blocks of the same depth",
        threshold=Threshold("above", 0),
        why="'improve' gives a direction, no size",
        applies_when="the same network trained on a smaller and a larger subset",
        analysis="stitching",
        cases=cases.on_less_and_more,
        measure=more_data_plugs_in,
        stay_trained=(0,),
        within=DIFFERENCE,
    ),
)
