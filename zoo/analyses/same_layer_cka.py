"""Two networks of one architecture, layer by layer: read from a comparison, summed up, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from zoo.figures import style
from zoo.study.networks import ComparedNetwork
from zoo.study.results import Result, pair_name


@dataclass(frozen=True)
class SameLayers:
    """CKA of each layer of a network with the layer of that name in another.

    `low` and `high` (layers,) are the ends of the 95 % interval over batches of images, NaN where
    there is none; `notes` say of each layer without a value why it has none.
    """

    layers: tuple[str, ...]
    cka: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One line of a figure: a value a layer, and a band where `low` and `high` are finite."""

    label: str
    colour: str
    line: str
    cka: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def same_layers(result: Result, a: str, b: str) -> SameLayers:
    """Read the diagonal between two networks from a result of the analysis `cka`.

    Args:
        result: holds `cka/<a>__<b>` or `cka/<b>__<a>`.
        a: name of one network.
        b: name of another, with layers of the same names.

    Raises:
        ValueError: the two have different layers.
    """
    layers, others = (result.labels[f"layer[{name}]"] for name in (a, b))
    if layers != others:
        raise ValueError(f"expected the same layers in {a} and {b}, got {layers} and {others}")
    pair = pair_name(a, b) if f"cka/{pair_name(a, b)}" in result.arrays else pair_name(b, a)
    cka = np.diagonal(result.arrays[f"cka/{pair}"].values).copy()
    ends = [
        np.diagonal(result.arrays[f"{end}/{pair}"].values).copy()
        if f"{end}/{pair}" in result.arrays
        else np.full(len(layers), np.nan)
        for end in ("low", "high")
    ]
    starts = [tuple(f"{name}: layer {layer} " for name in (a, b)) for layer in layers]
    notes = ["; ".join(n for n in result.notes if n.startswith(start)) for start in starts]
    return SameLayers(layers, cka, ends[0], ends[1], tuple(notes))


def block_positions(subject: ComparedNetwork) -> tuple[int, ...]:
    """Return where a network's blocks stand among its compared layers; without blocks, all."""
    roles = [subject.trace[name].role for name in subject.layers]
    blocks = tuple(i for i, role in enumerate(roles) if role == "block")
    return blocks or tuple(i for i, role in enumerate(roles) if role != "head")


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
    ticks, names = style.choose_labels(list(layers), most)
    axis.set_xticks(ticks, [style.shorten(name, 18) for name in names], rotation=90)
    axis.tick_params(axis="x", labelsize=style.LABEL_POINTS)
    lowest = min([0.0, *(float(v) for entry in lines for v in entry.cka if np.isfinite(v))])
    axis.set_ylim(lowest - 0.02, 1.02)
    axis.grid(axis="y", alpha=0.3)
