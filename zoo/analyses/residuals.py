"""Residual connections: what does a block carry on, and what does it add?

Raghu et al. 2021, Figs 7, E.1, E.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About
from zoo.analyses.residual_figures import COSINE, draw_depth, draw_tokens
from zoo.capture.branches import Branch, find_branches
from zoo.capture.hook_points import HookPoint
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.attention_layers import has_class_token
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Array, Result
from zoo.study.spatial_layout import example_input, layout_of

ABOUT = About(
    name="residuals",
    title="Residual connections",
    shows=(
        "How much of what leaves a block is carried by the skip connection and how much is "
        "added by its branches: ‖z‖ / ‖f(z)‖ for the stream z and the branch f(z) that is added "
        "to it, and the cosine between what enters and what leaves a block, for every token."
    ),
    reading=(
        "A ratio far above 1 is a token that the skip carries on almost unchanged; below 1, the "
        "branch replaces it. A cosine near 1 is a block that hands on what it was given; "
        "the map's colours begin where nearly all tokens lie above, as the bar says."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 7, E.1, E.2",
    captions={
        "residuals-tokens-{}": "Skip against branch, for every token of {}.",
        "residuals-depth": "Skip against branch, and input against output, by depth.",
    },
)

CLS = "CLS"


def norm_ratio(z: torch.Tensor, f: torch.Tensor, *, axis: int = -1) -> NDArray[np.float64]:
    """Return ‖z‖₂ / ‖f(z)‖₂ of each token or location.

    Args:
        z: (n, …) the stream as it is added, with its channels along `axis`.
        f: the branch as it is added, of the same shape.
        axis: where the channels are: 1 for (n, channels, height, width), else the last.

    Returns:
        (n, tokens); NaN where f(z) is zero or either is not finite.

    Source: Raghu et al. 2021, Fig. 7.

    >>> norm_ratio(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]]))
    array([[5.]])
    """
    return _ratio(_norms(z, axis), _norms(f, axis))


def token_cosine(x: torch.Tensor, y: torch.Tensor, *, axis: int = -1) -> NDArray[np.float64]:
    """Return the cosine between two tensors of one shape for each token or location.

    Arguments as in `norm_ratio`; NaN where a token is zero or not finite.

    >>> token_cosine(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]]))
    array([[0.6]])
    """
    # In the network's own precision: in float64 this took a fifth of the forward pass.
    dot = (_at_least_float32(x) * _at_least_float32(y)).sum(dim=axis)
    return _ratio(_rows(dot), _norms(x, axis) * _norms(y, axis))


def _norms(value: torch.Tensor, axis: int) -> NDArray[np.float64]:
    return _rows(torch.linalg.vector_norm(_at_least_float32(value), dim=axis))


def _rows(values: torch.Tensor) -> NDArray[np.float64]:
    return values.flatten(1).double().cpu().numpy()


def _at_least_float32(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = np.isfinite(above) & np.isfinite(below) & (below != 0)
    return np.where(defined, above, np.nan) / np.where(defined, below, 1.0)


@dataclass
class _Mean:
    """A mean over images for each token, of those values that are defined."""

    total: NDArray[np.float64] | float = 0.0
    count: NDArray[np.int64] | int = 0
    images: int = 0

    def add(self, values: NDArray[np.float64]) -> None:
        defined = np.isfinite(values)
        self.total = self.total + np.where(defined, values, 0.0).sum(axis=0)
        self.count = self.count + defined.sum(axis=0)
        self.images += len(values)

    @property
    def value(self) -> NDArray[np.float64]:
        return np.asarray(self.total / np.where(np.greater(self.count, 0), self.count, np.nan))

    @property
    def undefined(self) -> float:
        """The share of values that are left out."""
        return 1 - float(np.mean(self.count)) / self.images if self.images else 0.0


def start(study: Study) -> Accumulator:
    """Begin; an image of noise is run through each model to find its residual sums.

    Raises:
        NotApplicable: no model has any.
    """
    found: dict[int, tuple[Branch, ...]] = {}
    for s, subject in enumerate(study.models):
        branches = find_branches(subject.model.module, subject.trace, example_input(subject))
        found[s] = tuple(b for b in branches if layout_of(subject, b.block))
    if not any(found.values()):
        raise NotApplicable("no model has residual blocks")
    return _Residuals(study, found)


class _Residuals(Accumulator):
    """Keeps a mean for every branch and block, and tensors only until the end of their block."""

    def __init__(self, study: Study, branches: dict[int, tuple[Branch, ...]]) -> None:
        self.study, self.branches = study, branches
        self.arrays: dict[str, Array] = {}
        self.metrics: dict[str, float] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []
        self.means: dict[tuple[int, str, str], _Mean] = {}
        self.pairs: dict[tuple[int, HookPoint], list[tuple[str, str, HookPoint, HookPoint]]] = {}
        self.waiting: dict[HookPoint, torch.Tensor] = {}
        for s, of_model in branches.items():
            pairs = [(b.kind, b.block, b.skip, b.output) for b in of_model]
            # A block's first skip is its input, after the projection where there is one.
            firsts = {b.block: b.skip for b in reversed(of_model)}
            pairs += [(COSINE, block, skip, HookPoint(block)) for block, skip in firsts.items()]
            for pair in pairs:
                self.means[s, pair[0], pair[1]] = _Mean()
                for tap in pair[2:]:
                    self.pairs.setdefault((s, tap), []).append(pair)

    def hook_points(self, subject: int) -> Iterable[HookPoint]:
        return [tap for s, tap in self.pairs if s == subject]

    def observe(self, subject: int, tap: HookPoint, value: torch.Tensor) -> None:
        for what, block, first, second in self.pairs[subject, tap]:
            other = self.waiting.get(second if tap == first else first)
            if other is None:
                # A sum made in place overwrites the skip or the branch.
                self.waiting[tap] = value.clone()
                continue
            z, f = (value, other) if tap == first else (other, value)
            layout = layout_of(self.study.models[subject], block)
            axis = 1 if layout and layout.kind == "channels_first" else -1
            measure = token_cosine if what == COSINE else norm_ratio
            self.means[subject, what, block].add(measure(z, f.reshape(z.shape), axis=axis))
        if tap == HookPoint(self.pairs[subject, tap][0][1]):
            self.waiting.clear()

    def result(self) -> Result:
        for s, subject in enumerate(self.study.models):
            if self.branches[s]:
                self._summarise(s, subject)
            else:
                self.notes.append(f"{subject.name}: no residual sum was found in its blocks")
        names = tuple(m.name for s, m in enumerate(self.study.models) if self.branches[s])
        return Result(names, self.arrays, self.metrics, self.labels, tuple(self.notes))

    def _summarise(self, s: int, subject: ComparedNetwork) -> None:
        """Turn one model's means into arrays and metrics; a block without a sum gives NaN."""
        name, blocks = subject.name, subject.trace.of_role("block")
        self.labels[f"block[{name}]"] = blocks
        depth = np.arange(1, len(blocks) + 1) / len(blocks)
        self.arrays[f"depth/{name}"] = Array(depth, (f"block[{name}]",))
        kinds = dict.fromkeys(branch.kind for branch in self.branches[s])
        for what in (*kinds, COSINE):
            rows = {block: self.means.get((s, what, block), _Mean()) for block in blocks}
            self._note_gaps(name, what, rows)
            values = [row.value for row in rows.values()]
            key = COSINE if what == COSINE else f"ratio_{what}"
            means = np.array([_mean(v) for v in values])
            self.arrays[f"mean_{key}/{name}"] = Array(means, (f"block[{name}]",))
            self._metric(name, f"mean_{key}", _mean(means))
            tokens = _token_names(subject)
            if tokens and all(v.shape in ((), (len(tokens),)) for v in values):
                self.labels[f"token[{name}]"] = tokens
                table = np.stack([np.broadcast_to(v, len(tokens)) for v in values])
                dims = (f"block[{name}]", f"token[{name}]")
                self.arrays[f"{key}/{name}"] = Array(table, dims)
        ratios = [self.arrays[f"mean_ratio_{kind}/{name}"].values for kind in kinds]
        self._metric(name, "mean_ratio", _mean(np.stack(ratios)))
        tables = [self.arrays.get(f"ratio_{kind}/{name}") for kind in kinds]
        self._rate_halves(name, [table.values for table in tables if table is not None])

    def _note_gaps(self, name: str, what: str, rows: dict[str, _Mean]) -> None:
        missing = [block for block, row in rows.items() if np.ndim(row.count) == 0]
        if missing and what != COSINE:
            self.notes.append(f"{name}: found no {what} sum in {', '.join(missing)}")
        gaps = {block: row.undefined for block, row in rows.items() if row.undefined > 0}
        if gaps:
            shares = ", ".join(f"{block} {100 * share:.2f} %" for block, share in gaps.items())
            self.notes.append(
                f"{name}: {what}: left out tokens or locations, zero or not finite: {shares}"
            )

    def _rate_halves(self, name: str, tables: Sequence[NDArray[np.float64]]) -> None:
        """Compare CLS with patches in the first and in the second half of the blocks."""
        if not tables:
            return
        tokens = self.labels[f"token[{name}]"]
        ratio = np.stack(tables)
        half = ratio.shape[1] // 2
        patches = [i for i, token in enumerate(tokens) if "," in token]
        groups = {"patch": patches} | ({"cls": [0]} if tokens[0] == CLS else {})
        if half == 0:
            self.notes.append(f"{name}: one block has no halves to compare")
            return
        # With an odd number of blocks, the middle one is in neither half.
        for what, chosen in groups.items():
            self._metric(name, f"{what}_ratio_first_half", _mean(ratio[:, :half, chosen]))
            self._metric(name, f"{what}_ratio_second_half", _mean(ratio[:, -half:, chosen]))

    def _metric(self, name: str, what: str, value: float) -> None:
        if math.isfinite(value):
            self.metrics[f"residuals/{name}/{what}"] = value


def _token_names(subject: ComparedNetwork) -> tuple[str, ...]:
    """Return `CLS` and other prefix tokens by name, patches by row and column."""
    grid = subject.grid
    if grid is None:
        return ()
    has_cls = has_class_token(subject)
    prefix = tuple(
        CLS if i == 0 and has_cls else f"prefix {i}" for i in range(grid.num_prefix_tokens)
    )
    return prefix + tuple(f"{y},{x}" for y in range(grid.height) for x in range(grid.width))


def _mean(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def draw(result: Result) -> dict[str, Figure]:
    """Draw token × block maps of models with tokens, and means against depth of all models."""
    figures = {
        f"residuals-tokens-{name}": draw_tokens(result, name)
        for name in result.models
        if f"{COSINE}/{name}" in result.arrays
    }
    return figures | {"residuals-depth": draw_depth(result)}
