"""Residual connections: what does a block carry on, and what does it add?

Raghu et al. 2021, Figs 7, E.1, E.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.residual_figures import COSINE, draw_depth, draw_tokens
from zoo.capture.branches import Branch, find_branches, notes_on_gaps
from zoo.capture.hook_points import HookPoint
from zoo.measures.intervals import mean_defined
from zoo.measures.replicates import GroupedMean, Replicates, in_rows
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.axes import column, layer_axis, select, variable
from zoo.study.networks import ComparedNetwork, Study, has_class_token
from zoo.study.replicates import replicated
from zoo.study.results import SIGNED, Metric, Part, Result
from zoo.study.spatial_layout import example_input, layout_of

ABOUT = About(
    name="residuals",
    title="Residual connections",
    shows=(
        "How much of what leaves a block is carried by the skip connection and how much is added "
        "by its branches: ‖z‖ / ‖f(z)‖ for the stream z and the branch f(z) that is added to it, "
        "and the cosine between what enters and what leaves a block, for every token."
    ),
    reading=(
        "A ratio far above 1 means that the skip carries a token on almost unchanged; below 1, the "
        "branch replaces it. A cosine near 1 means that a block passes on its input; the map's "
        "colours begin below nearly all tokens, as the bar shows."
    ),
    needs="activations",
    source="Raghu et al. 2021, Figs 7, E.1, E.2",
    captions={
        "residuals-tokens-{}": "Skip against branch, for every token of {}.",
        "residuals-depth": "Skip against branch, and input against output, by depth.",
    },
    metrics={
        "mean_ratio": "size of skip over branch, mean over blocks",
        "mean_cosine": "cosine of a block's input and output, mean over blocks",
    },
    unit="ratio",
    units={"mean_cosine": SIGNED},
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
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = np.isfinite(above) & np.isfinite(below) & (below != 0)
    return np.where(defined, above, np.nan) / np.where(defined, below, 1.0)


def start(study: Study) -> Accumulator:
    """Begin; an image of noise is run through each model to find its residual sums.

    Raises:
        NotApplicable: no model has any.
    """
    found: dict[int, tuple[Branch, ...]] = {}
    notes: list[str] = []
    for s, network in enumerate(study.networks):
        module, layers = network.model.module, network.trace
        branches = find_branches(module, layers, example_input(network))
        found[s] = tuple(b for b in branches if layout_of(network, b.block))
        if network.compared and found[s]:
            gaps = notes_on_gaps(module, layers, branches)
            elsewhere = dict.fromkeys(b.block for b in branches if b not in found[s])
            if elsewhere:
                where = ", ".join(elsewhere)
                gaps.append(f"not measured in {where}: no output there lies over the image")
            notes += [f"{network.name}: {gap}" for gap in gaps]
    if not any(found.values()):
        raise NotApplicable("no model has residual blocks")
    return _Residuals(study, found, notes)


class _Residuals(Accumulator):
    """Keeps a mean for every branch and block, and tensors only until the end of their block."""

    gathers = ("means",)

    def __init__(
        self, study: Study, branches: dict[int, tuple[Branch, ...]], notes: list[str]
    ) -> None:
        self.study, self.branches, self.notes = study, branches, notes
        self.means: dict[tuple[int, str, str], GroupedMean] = {}
        self.pairs: dict[tuple[int, HookPoint], list[tuple[str, str, HookPoint, HookPoint]]] = {}
        self.waiting: dict[HookPoint, torch.Tensor] = {}
        for s, of_model in branches.items():
            pairs = [(b.kind, b.block, b.skip, b.output) for b in of_model]
            # A block's first skip is its input, after the projection where there is one.
            firsts = {b.block: b.skip for b in reversed(of_model)}
            pairs += [(COSINE, block, skip, HookPoint(block)) for block, skip in firsts.items()]
            for pair in pairs:
                self.means[s, pair[0], pair[1]] = GroupedMean()
                for hook_point in pair[2:]:
                    self.pairs.setdefault((s, hook_point), []).append(pair)

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [hook_point for s, hook_point in self.pairs if s == index]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        for what, block, first, second in self.pairs[index, hook_point]:
            other = self.waiting.get(second if hook_point == first else first)
            if other is None:
                # A sum made in place overwrites the skip or the branch.
                self.waiting[hook_point] = value.clone()
                continue
            z, f = (value, other) if hook_point == first else (other, value)
            layout = layout_of(self.study.networks[index], block)
            axis = 1 if layout and layout.kind == "channels_first" else -1
            measure = token_cosine if what == COSINE else norm_ratio
            self.means[index, what, block].add(measure(z, f.reshape(z.shape), axis=axis))
        if hook_point == HookPoint(self.pairs[index, hook_point][0][1]):
            self.waiting.clear()

    def result(self) -> Result:
        measured = {s: self.study.networks[s] for s in self.branches if self.branches[s]}
        self.notes += [
            f"{network.name}: no residual sum was found in blocks whose output lies over the image"
            for network in self.study.compared
            if network.name not in {n.name for n in measured.values()}
        ]
        kinds = list(dict.fromkeys(b.kind for s in measured for b in self.branches[s]))
        rows = [(n, block) for n in measured.values() for block in n.trace.of_role("block")]
        tables = {s: self._tables(s, network) for s, network in measured.items()}
        cosines = [mean_defined(of) for table in tables.values() for of in table[COSINE]]
        variables: dict[str, Any] = {"mean_cosine": variable("layer", cosines)}
        for name, found in self._over_tokens(measured, kinds):
            if name != "mean_ratio" and not np.isfinite(found.whole).any():
                continue  # no network has such tokens
            variables |= replicated(name, ("layer", "branch"), found)
        data = xr.Dataset(variables, layer_axis(rows) | {"branch": column(kinds)})
        parts, metrics = [], []
        for s, network in measured.items():
            for measure in ("mean_ratio", "mean_cosine"):
                mean = mean_defined(select(data[measure], network.name).values.T)
                metrics.append(Metric(measure, mean, network.name))
            tokens = _token_names(network)
            full = {
                what: table
                for what, values in tables[s].items()
                if (table := _per_token(values, tokens)) is not None
            }
            if network.compared and network.grid and COSINE in full:
                parts.append(_token_part(network, tokens, full))
        return Result(data, tuple(parts), tuple(metrics), tuple(self.notes))

    def _over_tokens(
        self, measured: Mapping[int, ComparedNetwork], kinds: Sequence[str]
    ) -> Iterator[tuple[str, Replicates]]:
        """Yield mean ratios (blocks, branches) over all tokens, of CLS, and over the patches."""
        cells = []
        for s, network in measured.items():
            means = partial(_means_of_tokens, network=network)
            for block in network.trace.of_role("block"):
                found = [self.means.get((s, what, block), GroupedMean()) for what in kinds]
                cells += [gathered.result().map(means) for gathered in found]
        tables = in_rows(cells, 3).map(lambda rows: rows.T.reshape(3, -1, len(kinds)))
        for j, name in enumerate(("mean_ratio", "cls_ratio", "patch_ratio")):
            yield name, tables[j]

    def _tables(self, s: int, network: ComparedNetwork) -> dict[str, list[NDArray[np.float64]]]:
        """Return, by kind of branch and for the cosine, the means of each block's tokens."""
        tables = {}
        blocks = network.trace.of_role("block")
        for what in (*dict.fromkeys(branch.kind for branch in self.branches[s]), COSINE):
            rows = {block: self.means.get((s, what, block), GroupedMean()) for block in blocks}
            if network.compared:
                self._note_left_out(network.name, what, rows)
            tables[what] = [row.result().whole for row in rows.values()]
        return tables

    def _note_left_out(self, name: str, what: str, rows: dict[str, GroupedMean]) -> None:
        gaps = {
            block: 1 - row.count.mean() / row.images
            for block, row in rows.items()
            if row.images and (row.count < row.images).any()
        }
        if gaps:
            shares = ", ".join(f"{block} {100 * share:.2f} %" for block, share in gaps.items())
            self.notes.append(
                f"{name}: {what}: left out tokens or locations, zero or not finite: {shares}"
            )


def _means_of_tokens(ratios: NDArray[np.float64], network: ComparedNetwork) -> NDArray[np.float64]:
    """Return the mean of the tokens' ratios: of all, of CLS, of the patches; NaN without one."""
    names = _token_names(network)
    if ratios.ndim == 0 or len(names) != ratios.size:  # none was found, or they are no tokens
        return np.array([mean_defined(ratios), math.nan, math.nan])
    prefix = network.grid.num_prefix_tokens if network.grid else 0
    cls = ratios[0] if names[0] == CLS else math.nan
    return np.array([mean_defined(ratios), cls, mean_defined(ratios[prefix:])])


def _per_token(
    values: Sequence[NDArray[np.float64]], tokens: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return (blocks, tokens), NaN in a block without any; None where values are of no tokens."""
    if not tokens or any(value.shape not in ((), (len(tokens),)) for value in values):
        return None
    return np.stack([np.broadcast_to(value, len(tokens)) for value in values])


def _token_part(
    network: ComparedNetwork, tokens: Sequence[str], full: Mapping[str, NDArray[np.float64]]
) -> Part:
    """Return the ratios and cosines (blocks, tokens) of every token."""
    kinds = [what for what in full if what != COSINE]
    variables = {
        "ratio": variable(("branch", "layer", "token"), np.stack([full[kind] for kind in kinds])),
        "cosine": variable(("layer", "token"), full[COSINE]),
    }
    names = {
        "branch": column(kinds),
        "name": ("layer", column(network.trace.of_role("block"))),
        "token": column(tokens),
    }
    prefix = network.grid.num_prefix_tokens if network.grid else 0
    return Part(network.name, xr.Dataset(variables, names, {"num_prefix_tokens": prefix}))


def _token_names(network: ComparedNetwork) -> tuple[str, ...]:
    """Return `CLS` and other prefix tokens by name, patches by row and column."""
    grid = network.grid
    if grid is None:
        return ()
    has_cls = has_class_token(network)
    prefix = tuple(
        CLS if i == 0 and has_cls else f"prefix {i}" for i in range(grid.num_prefix_tokens)
    )
    return prefix + tuple(f"{y},{x}" for y in range(grid.height) for x in range(grid.width))


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw token × block maps of models with tokens, and means against depth of all models."""
    names = [name for name in compared if name in result.networks]
    tokens = [
        Drawing("residuals-tokens-{}", draw_tokens(part.data), (part.network,))
        for part in result.parts
        if part.network in names
    ]
    return [*tokens, Drawing("residuals-depth", draw_depth(result, names), over_seeds=True)]
