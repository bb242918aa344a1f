"""Claims on one network's layers against those of another training of it, block by block.

Each takes what `zoo.analyses.same_layer_cka.thirds` gives: the mean CKA of the lowest third of
blocks (`low_blocks`), of the highest third (`high_blocks`), and their difference
(`low_minus_high`).
"""

from __future__ import annotations

from collections.abc import Mapping

from zoo.claims.base import Measurement

Thirds = Mapping[str, float]
UNCHANGED = 1e-6  # of CKA: rounding


def low_blocks_agree(curve: Thirds) -> Measurement | None:
    """Measure the likeness of the lowest third of blocks minus that of the highest."""
    if "low_minus_high" not in curve:
        return None
    value = curve["low_minus_high"]
    return Measurement(value, value > 0, _describe(curve))


def vit_needs_more(vit: Thirds, cnn: Thirds) -> Measurement | None:
    """Measure how much more a ViT's highest blocks fall behind its lowest than a CNN's do."""
    if "low_minus_high" not in vit or "low_minus_high" not in cnn:
        return None
    value = vit["low_minus_high"] - cnn["low_minus_high"]
    return Measurement(value, value > 0, f"ViT: {_describe(vit)}; CNN: {_describe(cnn)}")


def first_blocks_are_kept(kept: Thirds) -> Measurement | str | None:
    """Measure how much more of the lowest third of blocks is kept than of the highest."""
    if "low_minus_high" in kept and min(kept["low_blocks"], kept["high_blocks"]) > 1 - UNCHANGED:
        return "no block has changed"
    return low_blocks_agree(kept)


def _describe(curve: Thirds) -> str:
    low, high = curve["low_blocks"], curve["high_blocks"]
    return f"lowest third of blocks {low:.3f}, highest third {high:.3f}"
