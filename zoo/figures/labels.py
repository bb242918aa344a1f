"""Names along an axis: which of many are printed, how they are cut, and how wide they are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

LABEL_POINTS = 6.0  # layer names are many, so they are the smallest text
LABEL_PITCH = 0.115  # inches from one such label to the next
LARGEST_BLOCK = 0.25  # of the names along an axis


def choose_labels(names: Sequence[str], most: int) -> tuple[list[int], list[str]]:
    """Choose which of many names to print along an axis, so that they do not overlap.

    Where not all fit, the first name of every block (`blocks.3`, `layer2.0`,
    `vit.encoder.layer.3`) stands for it, and of these only those that are far enough apart. Names
    are cut after as few parts as leave no more than `LARGEST_BLOCK` of them to one block.

    Args:
        names: all names along the axis, in order.
        most: how many fit.

    Returns:
        Positions along the axis, and the text at each.

    >>> choose_labels([f"net.blocks.{i}.{part}" for i in range(4) for part in ("norm", "mlp")], 4)
    ([0, 2, 4, 6], ['net.blocks.0', 'net.blocks.1', 'net.blocks.2', 'net.blocks.3'])
    """
    if len(names) <= most:
        return list(range(len(names))), list(names)
    parts = [name.split(".") for name in names]
    depths = range(1, max(map(len, parts)) + 1)
    cuts = ([".".join(part[:depth]) for part in parts] for depth in depths)
    limit = LARGEST_BLOCK * len(names)
    blocks = next((cut for cut in cuts if max(Counter(cut).values()) <= limit), list(names))
    apart = len(names) / most
    chosen: dict[str, int] = {}
    last = -math.inf
    for i, block in enumerate(blocks):
        if block not in chosen and i - last >= apart and (i == 0 or block != blocks[i - 1]):
            chosen[block] = last = i
    return list(chosen.values()), list(chosen)


def widest_label(names: Sequence[str], side: float, length: int = 22) -> float:
    """Return the width in inches of the widest name that is printed along a side in inches."""
    shown = choose_labels(names, int(side / LABEL_PITCH))[1]
    return max((text_width(shorten(name, length)) for name in shown), default=0.0)


@cache
def text_width(text: str, points: float = LABEL_POINTS) -> float:
    """Return the width of a text in inches."""
    font = FontProperties(size=points)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    # On a screen, letters are rounded up to whole dots.
    return float(width) / 72 * 1.06


def shorten(name: str, length: int = 22) -> str:
    """Cut a layer's name where it is too long to print; its end and its block's number are kept.

    >>> shorten("blocks.11.attn.proj", 15)
    'blocks.11….proj'
    >>> shorten("encoder.layers.encoder_layer_11.self_attention", 22)
    '…r_layer_11…_attention'
    >>> shorten("encoder.layers.0", 13)
    '…layers.0'
    """
    if len(name) <= length:
        return name
    if re.fullmatch(r"\D*\d+", name):  # the block's number ends it: whole parts are kept
        ends = (name[dot.end() :] for dot in re.finditer(r"\.", name))
        whole = next((end for end in ends if len(end) < length), "")
        if len(whole) >= length // 2:
            return f"…{whole}"
    numbered = re.match(r"(?:.*?\.|.*?)(\d+)(?=\.)", name)
    start, block = numbered.span(1) if numbered else (0, 0)
    head, tail = length // 2, (length - 1) // 2
    if head < block <= length - 4:
        head, tail = block, length - 1 - block
    elif head < block and start < len(name) - tail:
        # What comes before the number is the same for all blocks.
        tail = min((length - 2) // 2, len(name) - block)
        return f"…{name[block - (length - 2 - tail) : block]}…{name[-tail:]}"
    return f"{name[:head]}…{name[-tail:]}"
