"""Claims on frequencies."""

from __future__ import annotations

from functools import partial

from zoo.claims import cases
from zoo.claims.base import PARK, Claim, Measurement, Networks, Threshold, of_metric
from zoo.study.results import ComparisonResults


def stands_high_noise(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure how much more accuracy the CNN loses to high frequencies than the ViT."""
    vit, cnn = networks
    frequency = results.results["frequency"]
    found = frequency.find("lost_to_high_noise_difference", cnn.name, vit.name)
    lost = [frequency.metric("lost_to_high_noise", network.name) for network in networks]
    if found is None or lost[0] is None or lost[1] is None:
        return None
    detail = f"accuracy lost: ViT {lost[0]:.3f}, CNN {lost[1]:.3f}"
    images = int(frequency.part(cnn.name).attrs.get("answered_images", 0))
    return Measurement(found.value, detail, found.low, found.high, images=images)


CHANGE = "change of Δ log amplitude"
CHANGE_MEAN = f"{CHANGE} at the highest frequency, mean over "

claim = partial(Claim, analysis="frequency", paper=PARK)
CLAIMS = (
    claim(
        id="P-attention",
        figure="8",
        statement="A ViT's attention lowers high frequencies",
        measured_as=CHANGE_MEAN + "its attention branches",
        threshold=Threshold("below", 0),
        why="'reduces' gives a direction; the size is read by eye",
        applies_when="a ViT",
        cases=cases.vits,
        measure=of_metric("frequency", "change_attention", CHANGE),
    ),
    claim(
        id="P-mlp",
        figure="8",
        statement="A ViT's MLPs raise high frequencies",
        measured_as=CHANGE_MEAN + "its MLP branches",
        threshold=Threshold("above", 0),
        why="'amplify' gives a direction; the size is read by eye",
        applies_when="a ViT",
        cases=cases.vits,
        measure=of_metric("frequency", "change_mlp", CHANGE),
    ),
    claim(
        id="P-convolution",
        figure="8",
        statement="A CNN's convolutions raise high frequencies",
        measured_as=CHANGE_MEAN + "its branches whose skip is not projected",
        threshold=Threshold("above", 0),
        why="'amplify' gives a direction; the paper treats subsampling separately",
        applies_when="a CNN with residual blocks",
        cases=cases.cnns,
        measure=of_metric("frequency", "change_residual", CHANGE),
    ),
    claim(
        id="P-noise",
        figure="2b",
        statement="A ViT is more robust than a CNN to noise of high frequencies",
        measured_as="accuracy that the CNN loses to noise of the upper 40 % of frequencies, minus "
        "that of the ViT, on the same images",
        threshold=Threshold("above", 0),
        why="'more robust' means beyond chance: the paired interval excludes 0",
        applies_when="a ViT and a CNN that answer better than chance",
        cases=cases.vit_and_cnn,
        measure=stands_high_noise,
        answers=True,
    ),
)
