"""Claims on loss geometry: two papers say the opposite, and both are tested."""

from __future__ import annotations

from functools import partial

from zoo.claims import cases
from zoo.claims.base import PARK, Claim, Threshold, of_metric

claim = partial(
    Claim,
    measured_as="logarithm of the ViT's largest eigenvalue of the Hessian over the CNN's, mean "
    "over batches",
    why="a ratio of 1 is no difference",
    applies_when="a ViT and a CNN",
    analysis="loss-geometry",
    cases=cases.vit_and_cnn,
    measure=of_metric("loss-geometry", "largest_log_ratio", "logarithm of the ratio"),
)
CLAIMS = (
    claim(
        id="P-flat",
        paper=PARK,
        figure="4",
        statement="Attention flattens the loss: a ViT's largest eigenvalue is smaller than a CNN's",
        threshold=Threshold("below", 0),
    ),
    claim(
        id="C-sharp",
        paper="Chen et al. 2022",
        figure="Table 1",
        statement="A ViT converges at a sharper minimum: its largest eigenvalue is larger than "
        "a CNN's",
        threshold=Threshold("above", 0),
    ),
)
