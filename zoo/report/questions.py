"""The questions that the page answers, and where each analysis, figure and claim belongs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A section of the page.

    `analyses` are those whose figures and claims answer it. `heroes` are kinds of figures of any
    analysis (as in its captions), the best first: the first one that shows all compared models,
    and that no question before took, stands open; all others lie folded. `claims` are judged here
    although their analysis belongs elsewhere.
    """

    id: str
    title: str
    analyses: tuple[str, ...]
    heroes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


QUESTIONS = (
    Question(
        "right",
        "Who is right where?",
        ("accuracy", "differences", "calibration", "robustness"),
        ("differences-gallery-{}", "accuracy-by-class"),
    ),
    Question(
        "look",
        "What do they look at?",
        (
            "receptive-field", "attention-maps", "attention-distance", "grad-cam",
            "feature-maps", "patch-components", "frequency",
        ),
        ("receptive-field-radius", "attention-maps-entropy", "attention-distance-{}"),
    ),
    Question(
        "layers",
        "Do their layers do the same?",
        ("cka", "similarity", "stitching", "local-heads", "residuals", "localisation"),
        ("cka-{}", "cka-models"),
    ),
    Question(
        "learnt",
        "What was learnt, and what is architecture?",
        ("probes", "ablation", "loss-geometry"),
        ("probes-layers",),
    ),
    Question(
        "gap",
        "What would close the gap?",
        (),
        claims=(
            "Z-gap", "Z-far", "Z-attention", "R-low-agree", "R-local-data", "R-local-low",
            "R-local-spread", "R-global-high", "R-middle-data", "R-noskip-cost", "R-noskip-split",
            "R-size-data", "R-size-middle",
        ),
    ),
)  # fmt: skip

# Figures that stand beside the interactive panel of their analysis.
WITH_PANEL = {"cka-{}", "cka-models"}
# Analyses whose figures show all that a heat map with a readout would.
WITHOUT_HEAT_MAP = {"similarity"}
# Figures whose numbers an interactive panel shows too: they are for paper.
FOR_PRINT = {
    "cka-{}",
    "attention-maps-{}",
    "attention-maps-{}-heads",
    "feature-maps-{}",
    "feature-maps-{}-strongest",
}

PAPERS = {
    "Zhu et al. 2023": "https://arxiv.org/abs/2302.03751",
    "Raghu et al. 2021": "https://arxiv.org/abs/2108.08810",
    "Park & Kim 2022": "https://arxiv.org/abs/2202.06709",
    "Naseer et al. 2021": "https://arxiv.org/abs/2105.10497",
    "Guo et al. 2017": "https://arxiv.org/abs/1706.04599",
    "Chen et al. 2022": "https://arxiv.org/abs/2106.01548",
}

# Words that the page explains where they first stand in a section.
GLOSSARY = {
    "stem": "what comes before a network's first block; a ViT cuts the image into patches there",
    "block": "the unit that a network repeats",
    "branch": "what a block computes and adds to its input",
    "skip": "the path that carries a block's input past what the block computes",
    "head": "one of the parallel maps of an attention layer; also the last layer of a network, "
    "which names the class",
    "class token": "an extra vector beside the patches, from which a ViT reads the class (CLS)",
    "token": "a ViT's vector for one patch of the image",
    "probe": "a linear classifier fitted to a layer's output: what can be read there?",
    "CKA": "centred kernel alignment: how alike two layers arrange the same images, from 0 "
    "(unrelated) to 1 (the same); linear, with unbiased HSIC averaged over minibatches",
    "entropy": "how evenly attention is spread: highest where every token gets the same share",
    "receptive field": "the pixels that a unit's value depends on",
    "untrained": "the same architecture with the weights that its seed starts from",
    "interval": "95 % interval: the range of values compatible with these images, or with the "
    "seeds where there are several",
    "error consistency": "agreement beyond chance on which images are wrong (κ): 0 as for "
    "independent networks, 1 complete",
    "built in": "it held before training, and training is not shown to have added to it: it comes "
    "from the architecture or the images",
}
