"""Claims on effective receptive fields."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims import cases
from zoo.claims.base import RAGHU, Claim, Draws, Measurement, Networks, Threshold, measured, of_two
from zoo.measures.counts import above, count_draws
from zoo.measures.intervals import DIFFERENCE, SHARE
from zoo.measures.replicates import Replicates
from zoo.study.replicates import replicates_of
from zoo.study.results import ComparisonResults, Network


def first_reach(results: ComparisonResults, network: Network) -> Draws | None:
    """Return the reach (0..1) of a network's first block and its draws, (1 + draws,)."""
    reach = _radii(results, network, "reach", "block")
    return None if reach is None else reach.draws()[:, 0]


def last_core(results: ComparisonResults, network: Network) -> Draws | None:
    """Return the radius (0..1) with half of the field of a network's last block, and its draws."""
    core = _radii(results, network, "core", "block")
    return None if core is None else core.draws()[:, -1]


def grows_by_steps(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the share of steps from block to block at which the field grows."""
    found = _radii(results, networks[0], "reach", "stem", "block")
    if found is None or len(found.whole) < 2:
        return None
    reach, steps = found.whole, found.map(np.diff)
    count, of = int((steps.whole > 0).sum()), len(steps.whole)
    detail = (
        f"it grows at {count} of {of} steps, from {reach[0]:.2f} to "
        f"{reach[-1]:.2f} of half the image's diagonal"
    )
    return measured(count_draws(count, above(steps)) / of, detail, of)


def _radii(
    results: ComparisonResults, network: Network, radius: str, *roles: str
) -> Replicates | None:
    """Return layers' radii (layers,); None with a gap, or empty."""
    data = results.results["receptive-field"].data
    if radius not in data:  # measured before it was kept
        return None
    found = replicates_of(data, radius, network.name, role=roles)
    return found if found.whole.size and found.is_finite else None


claim = partial(Claim, analysis="receptive-field", paper=RAGHU, figure="6")
CLAIMS = (
    claim(
        id="R-reach",
        statement="A ViT's first block sees farther than a CNN's",
        measured_as="radius with 90 % of the receptive field over half of the image's diagonal, "
        "first block, ViT minus CNN",
        threshold=Threshold("above", 0),
        why="'larger' gives a direction; 90 %, since half of a ViT's field is its own strong patch",
        applies_when="a ViT and a CNN",
        cases=cases.vit_and_cnn,
        measure=of_two(
            first_reach,
            "radius over half of the image's diagonal: ViT {first:.3f}, CNN {second:.3f}",
        ),
        within=DIFFERENCE,
    ),
    claim(
        id="R-grow",
        statement="A CNN's receptive field grows step by step",
        measured_as="share of steps (stem to first block, block to block) at which the radius with "
        "90 % of the field grows, of the CNN alone",
        threshold=Threshold("above", 0.5),
        why="'step by step' means most of the steps",
        applies_when="a CNN",
        cases=cases.cnns,
        measure=grows_by_steps,
        within=SHARE,
    ),
)
