"""Two networks of one architecture, layer by layer: read from a comparison, summed up, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from zoo.figures import style
from zoo.study.axes import select
from zoo.study.networks import layer_labels
from zoo.study.replicates import draws_of
from zoo.study.results import Result


@dataclass(frozen=True)
class SameLayers:
    """CKA of each layer of a network with the layer of that name in another.

    `low` and `high` (layers,) are the ends of the 95 % interval over images, NaN where
    there is none, and `draws` (1 + draws, layers) the values and what they might be on other
    images; `notes` say of each layer without a value why it has none. `blocks` are the
    positions of the blocks; of a network without any, of all layers but the head.
    """

    layers: tuple[str, ...]
    cka: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    notes: tuple[str, ...]
    blocks: tuple[int, ...]
    draws: NDArray[np.float64]

    @property
    def block_draws(self) -> NDArray[np.float64]:
        """The blocks' values and what they might be on other images, (1 + draws, blocks)."""
        return self.draws[:, self.blocks]


@dataclass(frozen=True)
class Line:
    """One line of a figure: one value per layer, and a band where `low` and `high` are finite."""

    label: str
    colour: str
    line: str
    cka: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def same_layers(result: Result, a: str, b: str) -> SameLayers:
    """Read the diagonal between two networks from a result of the analysis `cka`.

    Args:
        result: of CKA, with both networks.
        a: name of one network.
        b: name of another, with layers of the same names.

    Raises:
        ValueError: the two have different layers.
    """
    cka = select(result.data["cka"], a, b)
    layers, others = (tuple(str(n) for n in cka[name].values) for name in ("name", "name_b"))
    if layers != others:
        raise ValueError(f"expected the same layers in {a} and {b}, got {layers} and {others}")
    ends = np.full((2, len(layers)), np.nan)
    if "cka_ci" in result.data:
        bounds = select(result.data["cka_ci"], a, b).values
        ends = np.stack([np.diagonal(bounds[..., end]) for end in (0, 1)])
    roles = cka["role"].values
    layers = tuple(layer_labels(layers, roles))
    starts = [tuple(f"{name}: {layer} " for name in (a, b)) for layer in layers]
    notes = ["; ".join(n for n in result.notes if n.startswith(start)) for start in starts]
    blocks = np.flatnonzero(roles == "block" if "block" in roles else roles != "head")
    values = np.diagonal(cka.values).copy()
    draws = np.diagonal(draws_of(result.data, "cka", a, b), axis1=1, axis2=2)
    of_blocks = tuple(blocks.tolist())
    return SameLayers(layers, values, ends[0], ends[1], tuple(notes), of_blocks, draws)


def draw_lines(axis: Axes, layers: Sequence[str], lines: Sequence[Line], *, most: int) -> None:
    """Draw values against layers, from the first to the last.

    Args:
        axis: where to.
        layers: names along the horizontal axis.
        lines: what to draw, the last on top.
        most: how many names fit along the axis.
    """
    positions = np.arange(len(layers))
    for entry in lines:
        marker = "o" if entry.line == "-" else ""
        axis.plot(
            positions, entry.cka, entry.line, color=entry.colour, label=entry.label,
            marker=marker, markersize=3, linewidth=1.3,
        )  # fmt: skip
        axis.fill_between(
            positions, entry.low, entry.high, color=entry.colour, alpha=0.15, linewidth=0
        )
    ticks, names = style.choose_labels(layers, most)
    axis.set_xticks(ticks, [style.shorten(name, 18) for name in names], rotation=90)
    axis.tick_params(axis="x", labelsize=style.LABEL_POINTS)
    lowest = min([0.0, *(float(v) for entry in lines for v in entry.cka if np.isfinite(v))])
    axis.set_ylim(lowest - 0.02, 1.02)
    axis.grid(axis="y", alpha=0.3)
