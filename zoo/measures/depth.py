"""Early and late: which of a network's layers are its lowest and its highest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def thirds(values: NDArray[np.float64], blocks: Sequence[int]) -> dict[str, float]:
    """Return the mean over all blocks, over the lowest and the highest third, and low minus high.

    Args:
        values: (layers,).
        blocks: positions of the blocks in it, in order; a third is rounded down, one at least.

    Returns:
        `mean`, `low_blocks`, `high_blocks`, `low_minus_high`; what is not finite is left out.

    >>> thirds(np.array([0.0, 0.9, 0.5, 0.1]), blocks=[1, 2, 3])["low_minus_high"]
    0.8
    """
    inner = values[list(blocks)]
    third = third_of(len(inner))
    low, high = inner[:third].mean(), inner[-third:].mean()
    found = {
        "mean": inner.mean(),
        "low_blocks": low,
        "high_blocks": high,
        "low_minus_high": low - high,
    }
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def third_of(count: int) -> int:
    """Return how many of so many layers are a third: one at least."""
    return max(1, count // 3)
