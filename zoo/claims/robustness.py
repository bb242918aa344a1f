"""Claims on what an image must keep."""

from __future__ import annotations

from functools import partial

from zoo.claims import cases
from zoo.claims.base import Claim, Measurement, Networks, Threshold
from zoo.study.results import ComparisonResults


def keeps_more(
    results: ComparisonResults, networks: Networks, *, measure: str
) -> Measurement | None:
    """Measure what share of its accuracy the ViT keeps, minus the CNN's."""
    vit, cnn = networks
    robustness = results.results["robustness"]
    found = robustness.find(f"{measure}_difference", vit.name, cnn.name)
    kept = [robustness.metric(measure, network.name) for network in networks]
    if found is None or kept[0] is None or kept[1] is None:
        return None
    detail = f"accuracy kept: ViT {kept[0]:.3f}, CNN {kept[1]:.3f}"
    return Measurement(found.value, detail, found.low, found.high)


claim = partial(
    Claim,
    paper="Naseer et al. 2021",
    threshold=Threshold("above", 0),
    why="'more robust' means beyond chance: the paired interval excludes 0",
    applies_when="a ViT and a CNN that answer better than chance",
    analysis="robustness",
    cases=cases.vit_and_cnn,
    answers=True,
)
KEPT = "share of accuracy that the ViT keeps minus the CNN's, mean over"
CLAIMS = (
    claim(
        id="N-dropped",
        figure="2",
        statement="A ViT keeps more of its accuracy than a CNN when patches are dropped at random",
        measured_as=f"{KEPT} shares of 25, 50 and 75 %",
        measure=partial(keeps_more, measure="kept_random_patches"),
    ),
    claim(
        id="N-shuffled",
        figure="8",
        statement="A ViT keeps more of its accuracy than a CNN when the image's tiles are shuffled",
        measured_as=f"{KEPT} 2, 4 and 8 tiles a side",
        measure=partial(keeps_more, measure="kept_shuffled_tiles"),
    ),
)
