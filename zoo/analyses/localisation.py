"""Spatial localisation: does a token near the output still stand for its own place?

Raghu et al. 2021, Figs 9, 10, D.1-D.3: CKA between one token of a late block and the raw pixels
of every input patch, over images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.localisation_figures import LAST, LAST_BUT_ONE, draw_maps, draw_scores
from zoo.capture.hook_points import HookPoint
from zoo.measures.intervals import SHARE, in_range
from zoo.measures.linear_cka import NOT_FINITE, PROBLEMS, CentredGram, centred_gram
from zoo.measures.localisation import HsicSums, localisation_score
from zoo.measures.replicates import percentile_interval
from zoo.measures.sampling import even_batches
from zoo.models.preprocess import resize_and_crop
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.axes import Scale, column, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Metric, Part, Result
from zoo.study.spatial_layout import SMALLEST_GRID, Layout, layout_of, name_copies, places_of

ABOUT = About(
    name="localisation",
    title="Spatial localisation",
    shows=(
        "Whether a token (in a CNN: a location) of the last block still represents its own "
        "place: its CKA with the raw pixels of every patch of the input, and the share of "
        "tokens that are most like the pixels of their own patch, with its interval over images."
    ),
    reading=(
        "Each map is one token, marked by a square: a bright spot in the square is a token that "
        "kept its place, an even map one that mixes the whole image. Hatched patches are "
        "constant over all images and cannot be compared."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 9, 10, D.1-D.3",
    settings=("batch_size",),
    captions={
        "localisation-{}": "CKA of three tokens of {} with the pixels of every patch.",
        "localisation-score": "The share of tokens that are most like their own patch.",
    },
    metrics={
        "score_last_block": "share of tokens most like their own patch, last block",
        "score_last_but_one_block": "share of tokens most like their own patch, last block but one",
        "chance": "share of tokens most like their own patch, by chance",
        "tokens": "tokens of the last block",
    },
    units={"tokens": "number"},
)

SCALE = Scale("CKA with the pixels of a patch", 0)

MOST_TOKENS = 196
# A Gram matrix has n² cells: sub-batches keep it small, and the estimator averages over them.
SUB_BATCH = 128


def stacked_grams(values: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the U-centred Gram matrices (k, n²) of k representations (n, …) of a batch.

    That of a representation that is not finite is NaN, so that its sums over batches are too.
    """
    return torch.stack([gram_or_nan(centred_gram(value)) for value in values])


def gram_or_nan(gram: CentredGram) -> torch.Tensor:
    """Return a Gram matrix's values: NaN where it is not finite, 0 where it is constant."""
    return gram.values.masked_fill(gram.code == PROBLEMS.index(NOT_FINITE), math.nan)


def cut_patches(pixels: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    """Return the patches (n, channels, …) of a grid over images, row by row.

    Args:
        pixels: (n, channels, rows, columns).
        height: patches in a column of the grid.
        width: patches in a row; where sides do not divide, patches differ by a pixel.
    """
    rows, columns = (
        [round(i * side / count) for i in range(count + 1)]
        for side, count in zip(pixels.shape[2:], (height, width), strict=True)
    )
    return [
        pixels[:, :, rows[y] : rows[y + 1], columns[x] : columns[x + 1]]
        for y in range(height)
        for x in range(width)
    ]


def spread_places(height: int, width: int, most: int = MOST_TOKENS) -> NDArray[np.int64]:
    """Return the places of a grid, row by row; of a large one a regular grid with its corners.

    >>> spread_places(3, 3, most=4)
    array([0, 2, 6, 8])
    """
    side = math.isqrt(most) if height * width > most else max(height, width)
    rows, columns = (
        np.linspace(0, n - 1, min(n, side)).round().astype(int) for n in (height, width)
    )
    return np.asarray((rows[:, None] * width + columns).ravel())


def late_blocks(network: ComparedNetwork) -> tuple[str, ...]:
    """Return the last block, and the one before it, whose outputs lie over the image.

    Without a token grid, blocks with fewer than 4 × 4 locations are passed over: hardly anything
    could be said of places there. One token has no place to keep.
    """
    names = network.trace.of_role("block") or network.layers
    layouts = {name: layout for name in names if (layout := layout_of(network, name))}
    least = 2 if network.grid else SMALLEST_GRID
    large = [name for name, at in layouts.items() if min(at.height, at.width) >= least]
    return tuple(large[:-3:-1])


def start(study: Study) -> Accumulator:
    """Begin with the last two blocks of every model.

    Raises:
        NotApplicable: no model has a block with enough places.
    """
    if not any(late_blocks(network) for network in study.compared):
        raise NotApplicable("no model has a late block whose output lies over the image")
    return _Localisation(study)


@dataclass
class _Watched:
    """A block, its chosen tokens, their Gram matrices in this batch, and HSIC so far."""

    which: str
    block: str
    layout: Layout
    own: NDArray[np.int64]
    grams: list[torch.Tensor] = field(default_factory=list)
    sums: HsicSums = field(default_factory=HsicSums)

    def merge(self, other: _Watched) -> None:
        """Add the sums of another that watched the same block."""
        self.sums.merge(other.sums)


class _Localisation(Accumulator):
    gathers = ("watched",)

    def __init__(self, study: Study) -> None:
        self.study = study
        self.watched: dict[tuple[int, str], _Watched] = {}
        for s, network in enumerate(study.networks):
            for which, block in zip((LAST, LAST_BUT_ONE), late_blocks(network), strict=False):
                if layout := layout_of(network, block):
                    own = spread_places(layout.height, layout.width)
                    self.watched[s, block] = _Watched(which, block, layout, own)

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [HookPoint(block) for s, block in self.watched if s == index]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        block = self.watched[index, hook_point.layer]
        places = places_of(value, block.layout)
        block.grams = [
            stacked_grams(places[a:b, token] for token in block.own)
            for a, b in even_batches(len(value), SUB_BATCH)
        ]

    def end_batch(self, batch: Batch) -> None:
        pixels = torch.as_tensor(batch.images).permute(0, 3, 1, 2).float() / 255
        for s, network in enumerate(self.study.networks):
            blocks = [block for (of, _), block in self.watched.items() if of == s]
            grids = {(block.layout.height, block.layout.width) for block in blocks}
            seen = resize_and_crop(pixels, network.model.spec).to(self.study.device)
            for grid in grids:
                same = [b for b in blocks if (b.layout.height, b.layout.width) == grid and b.grams]
                for i, (a, b) in enumerate(even_batches(len(seen), SUB_BATCH)):
                    patches = stacked_grams(cut_patches(seen[a:b], *grid))
                    for block in same:
                        block.sums.add(block.grams[i], patches, b - a)
        for block in self.watched.values():
            block.grams = []

    def result(self) -> Result:
        metrics: list[Metric] = []
        parts: list[Part] = []
        drawn: dict[str, NDArray[np.float64]] = {}
        notes = name_copies(self.study.images)
        for s, network in enumerate(self.study.networks):
            if network.compared:
                notes += _passed_over(network)
            for block in (w for (of, _), w in self.watched.items() if of == s):
                cka, name = block.sums.cka(), network.name
                places = [divmod(i, block.layout.width) for i in range(cka.shape[1])]
                varied = np.greater(block.sums.patches, 0)
                if network.compared:
                    parts.append(Part(name, _maps(block, cka, places), block.block))
                    notes += _gaps(name, "patches of the images", places, varied)
                    kept = np.greater(block.sums.tokens, 0)
                    own = [places[i] for i in block.own]
                    notes += _gaps(name, f"tokens of {block.block}", own, kept)
                score, low, high = localisation_score(cka, block.own), math.nan, math.nan
                if block.which == LAST and math.isfinite(score):
                    drawn[name] = block.sums.scores(block.own)
                    found = percentile_interval(drawn[name])
                    score, low, high = in_range(found, SHARE).tolist()
                if math.isfinite(score):
                    metrics.append(Metric(f"score_{block.which}", score, name, "", low, high))
                    if block.which == LAST and varied.any():
                        metrics.append(Metric("chance", 1 / int(varied.sum()), name))
                        metrics.append(Metric("tokens", len(places), name))
        # Two blocks with one grid see the same patches, and so the same constant ones.
        noted = tuple(dict.fromkeys(notes))
        data = xr.Dataset()
        if drawn:
            draws = variable(("network", "draw"), np.stack(list(drawn.values())))
            data = xr.Dataset({"score_draws": draws}, {"network": column(list(drawn))})
        return Result(data, tuple(parts), tuple(metrics), noted)


def _maps(
    block: _Watched, cka: NDArray[np.float64], places: Sequence[tuple[int, int]]
) -> xr.Dataset:
    """Return a block's CKA of tokens with patches, each map over the image's patches."""
    maps = cka.reshape(len(cka), block.layout.height, block.layout.width)
    rows, columns = (np.array([places[i][side] for i in block.own]) for side in (0, 1))
    return xr.Dataset(
        {"cka": variable(("token", "row", "column"), maps, scale=SCALE)},
        {"token_row": ("token", rows), "token_column": ("token", columns)},
        {"which": block.which},
    )


def _passed_over(network: ComparedNetwork) -> list[str]:
    """Say where the block under study is not the last one, or there is none."""
    blocks, name = late_blocks(network), network.name
    if not blocks:
        return [f"{name}: no block's output lies over the image in enough places"]
    layout = layout_of(network, blocks[0])
    every = network.trace.of_role("block") or network.layers
    spatial = [block for block in every if layout_of(network, block)]
    notes = []
    if layout and blocks[0] != spatial[-1]:
        notes.append(
            f"{name}: the last block has fewer than 4 × 4 locations: {blocks[0]} "
            f"({layout.height} × {layout.width}) is taken instead"
        )
    if layout and len(spread_places(layout.height, layout.width)) < layout.height * layout.width:
        notes.append(f"{name}: at most {MOST_TOKENS} tokens, on a regular grid, are looked at")
    return notes


def _gaps(
    name: str, what: str, places: Sequence[tuple[int, int]], varied: NDArray[np.bool_]
) -> list[str]:
    """Name the tokens or patches (row, column) that never varied."""
    bad = [f"({places[i][0]},{places[i][1]})" for i in np.flatnonzero(~varied).tolist()]
    if not bad:
        return []
    shown = " ".join(bad[:8]) + (" …" if len(bad) > 8 else "")
    return [
        f"{name}: {len(bad)} of {len(places)} {what} are constant or not finite and left out of "
        f"the score: {shown}"
    ]


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw a corner, an edge and a centre token of each model, and all models' scores."""
    names = [name for name in compared if name in result.networks]
    # One colour range for all models of the comparison, so that figures can be compared.
    tables = [part.data["cka"].values for part in result.parts]
    high = max(float(table[np.isfinite(table)].max(initial=0.0)) for table in tables)
    drawn = []
    for name in names:
        blocks = [part for part in result.parts if part.network == name]
        drawn.append(Drawing("localisation-{}", draw_maps(blocks, high), (name,)))
    return [*drawn, Drawing("localisation-score", draw_scores(result, names))]
