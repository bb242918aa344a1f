"""What Zhu et al. say of a ViT and a CNN on small datasets."""

from __future__ import annotations

from zoo.claims import cases
from zoo.claims.base import Claim
from zoo.claims.measured import accuracy, attention, cka

PAPER = "Zhu et al. 2023"

CLAIMS = (
    Claim(
        id="Z-accuracy",
        paper=PAPER,
        figure="table of accuracies",
        statement="On little data a CNN is more accurate than a ViT of similar size",
        measured_as="accuracy of the CNN minus that of the ViT, on the same test images",
        threshold="the 95 % interval lies above 0",
        why="'better' must not be chance: the paired interval excludes no difference",
        applies_when="a ViT and a CNN that were trained on the same images, neither with more than "
        "twice the parameters of the other",
        analysis="accuracy",
        cases=cases.similar_vit_and_cnn_on_the_same_data,
        measure=accuracy.accuracy_gap,
        stay_trained=None,
    ),
    Claim(
        id="Z-gap",
        paper=PAPER,
        figure="table of accuracies",
        statement="The gap between CNN and ViT narrows as data grows",
        measured_as="accuracy gap on less data minus the gap on more data",
        threshold="the 95 % interval lies above 0",
        why="'narrows' must not be chance; by how much is not said",
        applies_when="a ViT and a CNN, each trained on the same smaller and larger subset",
        analysis="accuracy",
        cases=cases.both_on_less_and_more,
        measure=accuracy.gap_narrows,
        stay_trained=None,
    ),
    Claim(
        id="Z-far",
        paper=PAPER,
        figure="CKA figures",
        statement="A ViT trained on little data is farther from one trained on much than CNNs are",
        measured_as="mean CKA of equal blocks, ViT pair minus CNN pair",
        threshold="below 0",
        why="'farther' is a sign, not a size",
        applies_when="a ViT and a CNN, each trained on the same smaller and larger subset",
        analysis="cka",
        cases=cases.both_on_less_and_more,
        measure=cka.farther_apart,
        stay_trained=(1, 3),
    ),
    Claim(
        id="Z-attention",
        paper=PAPER,
        figure="attention maps",
        statement="Trained on little data, a ViT's attention does not settle",
        measured_as="mean attention entropy (1: uniform) on less data minus on more data",
        threshold="above 0",
        why="attention that settles is concentrated: its entropy is lower",
        applies_when="the same ViT trained on a smaller and a larger subset",
        analysis="attention-maps",
        cases=cases.vit_on_less_and_more,
        measure=attention.attention_settles,
        stay_trained=(1,),
    ),
)
