"""How models are compared: from params.yaml, and as the settings of one comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from zoo.config.limits import COMPARED_BATCH, COMPARED_COUNT, SEED, check
from zoo.config.mapping import Range, check_ranges
from zoo.errors import UserError

POOLS = ("flatten", "gap", "cls", "tokens")
DEPTHS = ("0", "0.25", "0.5", "0.75", "1")  # of the stem and the blocks
FEATURES, LOGITS = "features", "logits"
POINTS = (*DEPTHS, FEATURES, LOGITS)  # what a fingerprint is made of


@dataclass(frozen=True)
class CompareConfig:
    """What the pipeline compares, and how."""

    pairs: list[list[str]]
    images: Annotated[int, COMPARED_COUNT]
    batch_size: Annotated[int, COMPARED_BATCH]
    layers: str = "blocks"
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for pair in self.pairs:
            check("compare.pairs", len(pair) >= 2, "two or more names in each entry", pair)
        check_ranges(self, "compare.")
        check_layers(self.layers)


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison: all of them affect its numbers and enter its digest.

    `pool` chooses which part of a layer is compared: `flatten` (all of it), `gap` (its mean over
    places), `cls` (the class token), `tokens` (all but class and register tokens). `show` chooses
    the images in figures: `apart` (those on which the networks differ most), `classes` (the first
    of each class), indices such as `3,17`, `class:NAME` or `only:MODEL` (those that only this
    model gets right). At most `shown_images` are shown, unless indices are given.
    """

    batch_size: Annotated[int, COMPARED_BATCH] = 128
    layers: str = "blocks"
    pool: str = "flatten"
    shown_images: Annotated[int, Range(1, 100, "images")] = 6
    show: str = "apart"
    references: bool = True
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        check_layers(self.layers)
        parse_show(self.show)
        check("pool", self.pool in POOLS, f"one of {', '.join(POOLS)}", self.pool)
        check_ranges(self)


def check_layers(selection: str) -> str:
    """Return a choice of layers, or raise `UserError` where it is no regular expression."""
    try:
        re.compile(selection)
    except re.error as error:
        raise UserError(
            f"layers: expected 'blocks', 'all' or a regular expression, got {selection!r}: {error}"
        ) from None
    return selection


def parse_show(show: str) -> tuple[str, str]:
    """Return what `Settings.show` asks for: its kind, and the indices or name that belong to it.

    >>> parse_show("3,17"), parse_show("only:vit-small"), parse_show("apart")
    (('indices', '3,17'), ('only', 'vit-small'), ('apart', ''))
    """
    kind, _, name = show.partition(":")
    if kind in ("class", "only") and name:
        return kind, name
    if show in ("apart", "classes"):
        return show, ""
    indices = show.replace(" ", "")
    valid = bool(re.fullmatch(r"\d{1,9}(,\d{1,9}){0,99}", indices, re.ASCII))
    check("show", valid, "apart, classes, class:NAME, only:MODEL or indices such as 3,17", show)
    return "indices", indices
