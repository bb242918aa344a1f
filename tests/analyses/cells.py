"""What is drawn in a grid of pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from zoo.figures.image_grid import GAP, PAD


def column_labels(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts if t.get_position()[1] == -PAD]


def row_labels(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts if t.get_position()[0] == -PAD]


def cell(figure: Figure, row: int, column: int) -> np.ndarray:
    """Return the colours (height, width, 4) of a cell."""
    whole = figure.axes[0].images[0].get_array()
    counts = len(row_labels(figure)), len(column_labels(figure))
    height, width = ((n + GAP) // k for n, k in zip(whole.shape, counts, strict=False))
    y, x = row * height, column * width
    return np.asarray(whole[y : y + height - GAP, x : x + width - GAP])
