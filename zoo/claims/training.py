"""Claims on one network's layers against those of another training of it, block by block.

Each takes what `zoo.measures.depth.thirds` gives: the mean CKA of the lowest third of
blocks (`low_blocks`), of the highest third (`high_blocks`), and their difference
(`low_minus_high`).
"""

from __future__ import annotations

from collections.abc import Mapping

from zoo.claims.base import RAGHU, Claim, Measurement, above

Thirds = Mapping[str, float]
UNCHANGED = 1e-6  # of CKA: rounding


def low_blocks_agree(curve: Thirds) -> Measurement | None:
    """Measure the similarity of the lowest third of blocks minus that of the highest."""
    if "low_minus_high" not in curve:
        return None
    value = curve["low_minus_high"]
    return Measurement(value, _describe(curve))


def vit_needs_more(vit: Thirds, cnn: Thirds) -> Measurement | None:
    """Measure how much more a ViT's highest blocks fall behind its lowest than a CNN's do."""
    if "low_minus_high" not in vit or "low_minus_high" not in cnn:
        return None
    value = vit["low_minus_high"] - cnn["low_minus_high"]
    return Measurement(value, f"ViT: {_describe(vit)}; CNN: {_describe(cnn)}")


def first_blocks_are_kept(kept: Thirds) -> Measurement | str | None:
    """Measure how much more of the lowest third of blocks is kept than of the highest."""
    if "low_minus_high" in kept and min(kept["low_blocks"], kept["high_blocks"]) > 1 - UNCHANGED:
        return "no block has changed"
    return low_blocks_agree(kept)


def _describe(curve: Thirds) -> str:
    low, high = curve["low_blocks"], curve["high_blocks"]
    return f"lowest third of blocks {low:.3f}, highest third {high:.3f}"


CLAIMS = (
    Claim(
        id="R-data-low",
        paper=RAGHU,
        figure="12",
        statement="On the least data, a ViT's lower layers already agree with those of all data, "
        "its higher ones do not yet",
        measured_as="CKA with the ViTs trained on all data, lowest minus highest third of blocks, "
        "mean over seeds",
        threshold=above(0),
        why="the lines fall with depth; the sign is the least that they say",
        applies_when="the pipeline's stage `effect`, with a ViT trained on two or more subsets",
        analysis="data-effect",
        cases=None,
        measure=low_blocks_agree,
    ),
    Claim(
        id="R-data-vit",
        paper=RAGHU,
        figure="12",
        statement="A ViT's higher layers need more data than a CNN's",
        measured_as="CKA with the networks trained on all data on the least data, lowest minus "
        "highest third of blocks, ViT minus CNN",
        threshold=above(0),
        why="'more' is a sign, not a size; lowest minus highest, since CKA's level differs",
        applies_when="the pipeline's stage `effect`, with a ViT and a CNN trained on the same "
        "subsets",
        analysis="data-effect",
        cases=None,
        measure=vit_needs_more,
    ),
    Claim(
        id="R-transfer",
        paper=RAGHU,
        figure="G.1",
        statement="Taken to other images, a network keeps its first layers and changes its last",
        measured_as="CKA of each block before with after, lowest minus highest third of blocks",
        threshold=above(0),
        why="how many blocks are kept depends on their number and the images: a sign",
        applies_when="`zoo transfer` of the whole network",
        analysis="transfer",
        cases=None,
        measure=first_blocks_are_kept,
    ),
)
