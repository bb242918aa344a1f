"""Claims on what an image must keep."""

from __future__ import annotations

from functools import partial

from zoo.claims import cases
from zoo.claims.base import Claim, Measurement, Networks, Threshold
from zoo.study.results import ComparisonResults

PAPER = "Naseer et al. 2021"


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


def _claim(key: str, figure: str, what: str, measured: str, measure: str) -> Claim:
    return Claim(
        id=key,
        paper=PAPER,
        figure=figure,
        statement=f"A ViT keeps more of its accuracy than a CNN {what}",
        measured_as=f"share of accuracy that the ViT keeps minus the CNN's, mean over {measured}",
        threshold=Threshold("above", 0),
        why="'more robust' must not be chance: the paired interval excludes no difference",
        applies_when="a ViT and a CNN that answer better than chance",
        analysis="robustness",
        cases=cases.vit_and_cnn,
        measure=partial(keeps_more, measure=measure),
        answers=True,
    )


CLAIMS = (
    _claim(
        "N-dropped", "2", "when patches are dropped at random", "shares of 25, 50 and 75 %",
        "kept_random_patches",
    ),
    _claim(
        "N-shuffled", "8", "when the image's tiles are shuffled", "2, 4 and 8 tiles a side",
        "kept_shuffled_tiles",
    ),
)  # fmt: skip
