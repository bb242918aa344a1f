"""Claims on one network's layers against those of another training of it, block by block.

Each takes the CKA of blocks and what it might be on other images, (1 + draws, blocks).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims.base import RAGHU, Claim, Draws, Measurement, Threshold, measured
from zoo.measures.depth import third_of

UNCHANGED = 1e-6  # of CKA: rounding


def low_blocks_agree(blocks: Draws) -> Measurement | None:
    """Measure the similarity of the lowest third of blocks minus that of the highest."""
    low, high = _thirds(blocks)
    return _measured(low - high, _describe(low, high))


def vit_needs_more(vit: Draws, cnn: Draws) -> Measurement | None:
    """Measure how much more a ViT's highest blocks fall behind its lowest than a CNN's do."""
    sides = _thirds(vit), _thirds(cnn)
    (vit_low, vit_high), (cnn_low, cnn_high) = sides
    detail = "ViT: {}; CNN: {}".format(*(_describe(*side) for side in sides))
    return _measured(vit_low - vit_high - (cnn_low - cnn_high), detail)


def first_blocks_are_kept(kept: Draws) -> Measurement | str | None:
    """Measure how much more of the lowest third of blocks is kept than of the highest."""
    if min(third[0] for third in _thirds(kept)) > 1 - UNCHANGED:
        return "no block has changed"
    return low_blocks_agree(kept)


def _thirds(blocks: Draws) -> tuple[Draws, Draws]:
    """Return the mean of the lowest and of the highest third of blocks, each (1 + draws,)."""
    third = third_of(blocks.shape[1])
    return blocks[:, :third].mean(axis=1), blocks[:, -third:].mean(axis=1)


def _measured(draws: Draws, detail: str) -> Measurement | None:
    return measured(draws, detail) if np.isfinite(draws[0]) else None


def _describe(low: Draws, high: Draws) -> str:
    return f"lowest third of blocks {low[0]:.3f}, highest third {high[0]:.3f}"


claim = partial(Claim, paper=RAGHU, cases=None)
CLAIMS = (
    claim(
        id="R-data-low",
        figure="12",
        statement="On the least data, a ViT's lower layers already agree with those of all data, "
        "its higher ones do not yet",
        measured_as="CKA with the ViTs trained on all data, lowest minus highest third of blocks, "
        "mean over seeds",
        threshold=Threshold("above", 0),
        why="the lines fall with depth; only that direction is tested",
        applies_when="the pipeline's stage `effect`, with a ViT trained on two or more subsets",
        analysis="data-effect",
        measure=low_blocks_agree,
    ),
    claim(
        id="R-data-vit",
        figure="12",
        statement="A ViT's higher layers need more data than a CNN's",
        measured_as="CKA with the networks trained on all data on the least data, lowest minus "
        "highest third of blocks, ViT minus CNN",
        threshold=Threshold("above", 0),
        why="'more' gives a direction, no size; lowest minus highest, since CKA's level differs; "
        "the paper shows ViTs only",
        applies_when="the pipeline's stage `effect`, with a ViT and a CNN trained on the same "
        "subsets",
        analysis="data-effect",
        measure=vit_needs_more,
    ),
    claim(
        id="R-transfer",
        figure="G.1",
        statement="Taken to other images, a network keeps its first layers and changes its last",
        measured_as="CKA of each block before the transfer with itself after it, mean of the "
        "lowest third of blocks minus that of the highest",
        threshold=Threshold("above", 0),
        why="how many blocks are kept depends on their number and the images",
        applies_when="`zoo transfer` of the whole network",
        analysis="transfer",
        measure=first_blocks_are_kept,
    ),
)
