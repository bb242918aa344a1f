"""Rows of pictures, each with a heading above it and a caption below every picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.figures import style

COLUMNS = 8
GAP = 0.08  # inches between pictures
HEADING, CAPTION = 0.22, 0.14  # inches: a line of text above and below a row


@dataclass(frozen=True)
class Row:
    """Pictures (h, w, 3) uint8 and a short caption for each; without any, the heading stands alone.

    A caption may have several lines. Those beyond `COLUMNS` are not drawn.
    """

    heading: str
    pictures: Sequence[NDArray]
    captions: Sequence[str]

    @property
    def lines(self) -> int:
        """How many lines its longest caption has."""
        return max((caption.count("\n") + 1 for caption in self.captions), default=0)


def gallery(rows: Sequence[Row], *, foot: str = "") -> Figure:
    """Draw rows of pictures at the width of a page.

    Args:
        rows: from top to bottom.
        foot: a line below them.
    """
    cell = (style.WIDTH - GAP * (COLUMNS - 1)) / COLUMNS
    heights = [HEADING + (cell + CAPTION * row.lines if row.pictures else 0) + GAP for row in rows]
    total = sum(heights) + (HEADING if foot else 0)
    with style.styled():
        figure = Figure(figsize=(style.WIDTH, total))
        axis = style.axes_at(figure, (0, 0), (style.WIDTH, total))
        axis.set_axis_off()
        axis.set(xlim=(0, style.WIDTH), ylim=(0, total))
        top = total
        for row, height in zip(rows, heights, strict=True):
            axis.text(0, top - HEADING / 2, row.heading, va="center", fontsize=8)
            for i, (picture, caption) in enumerate(
                zip(row.pictures[:COLUMNS], row.captions, strict=False)
            ):
                left, upper = i * (cell + GAP), top - HEADING
                axis.imshow(
                    picture, extent=(left, left + cell, upper - cell, upper), aspect="auto",
                    interpolation="antialiased",
                )  # fmt: skip
                for line, text in enumerate(caption.split("\n"), start=1):
                    axis.text(
                        left + cell / 2, upper - cell - CAPTION * (line - 0.4),
                        style.shorten(text, 17), ha="center", va="center",
                        fontsize=style.LABEL_POINTS, color="0.35" if line > 1 else "k",
                    )  # fmt: skip
            top -= height
        # Every picture sets the limits to its own.
        axis.set(xlim=(0, style.WIDTH), ylim=(0, total))
        if foot:
            axis.text(0, HEADING / 2, foot, va="center", fontsize=7, color="0.3")
    return figure
