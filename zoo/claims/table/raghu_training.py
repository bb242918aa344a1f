"""What Raghu et al. say of layers under other training: less data, another task.

No comparison of two models tests these: the pipeline's stage `effect` and `zoo transfer` do.
"""

from __future__ import annotations

from zoo.claims.base import Claim
from zoo.claims.measured import layers

PAPER = "Raghu et al. 2021"

CLAIMS = (
    Claim(
        id="R-data-low",
        paper=PAPER,
        figure="12",
        statement="On the least data, a ViT's lower layers already agree with those of all data, "
        "its higher ones do not yet",
        measured_as="CKA with the ViTs trained on all data, lowest minus highest third of blocks, "
        "mean over seeds",
        threshold="above 0",
        why="the lines fall with depth; the sign is the least that they say",
        applies_when="the pipeline's stage `effect`, with a ViT trained on two or more subsets",
        analysis="data-effect",
        cases=None,
        measure=layers.low_blocks_agree,
    ),
    Claim(
        id="R-data-vit",
        paper=PAPER,
        figure="12",
        statement="A ViT's higher layers need more data than a CNN's",
        measured_as="CKA with the networks trained on all data on the least data, lowest minus "
        "highest third of blocks, ViT minus CNN",
        threshold="above 0",
        why="'more' is a sign, not a size; lowest minus highest, since CKA's level differs",
        applies_when="the pipeline's stage `effect`, with a ViT and a CNN trained on the same "
        "subsets",
        analysis="data-effect",
        cases=None,
        measure=layers.vit_needs_more,
    ),
    Claim(
        id="R-transfer",
        paper=PAPER,
        figure="G.1",
        statement="Taken to other images, a network keeps its first layers and changes its last",
        measured_as="CKA of each block before with after, lowest minus highest third of blocks",
        threshold="above 0",
        why="how many blocks are kept depends on their number and the images: a sign",
        applies_when="`zoo transfer` of the whole network",
        analysis="transfer",
        cases=None,
        measure=layers.first_blocks_are_kept,
    ),
)
