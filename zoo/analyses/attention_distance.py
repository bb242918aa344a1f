"""How far each head looks: the mean distance between a query patch and what it attends to.

Raghu et al. 2021, Figs 3, 4, C.5, C.6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.capture.hook_points import HookPoint
from zoo.figures import style
from zoo.measures.replicates import GroupedMean
from zoo.study.accumulator import Accumulator
from zoo.study.attention_layers import LOCAL, Attending, attending_models, by_head
from zoo.study.axes import Scale, select_heads
from zoo.study.networks import Study
from zoo.study.replicates import replicated
from zoo.study.results import Metric, Result

ABOUT = About(
    name="attention-distance",
    title="Attention distance",
    shows=(
        "How far each head looks: the distance in pixels from a patch to the patches it attends "
        "to, weighted by attention, over all images and patches. A head with a short distance is "
        "local, as a convolution is."
    ),
    reading=(
        "Left: heads in order of their distance; the two lowest layers (solid) and the two highest "
        "(dashed) are marked, counted from the input. Right: every head, layer by layer. The "
        "dotted line, 1, is even attention over the whole image: a head near it is global, one "
        "below half of it (grey) is counted as local. Attention to class and register tokens is "
        "left out and the rest rescaled to sum to 1."
    ),
    needs="attention",
    source="Raghu et al. 2021, Figs 3, 4, C.5, C.6",
    captions={
        "attention-distance-{}": "How far the heads of {} look: sorted, and layer by layer.",
    },
    metrics={
        "lowest_layer_mean": "mean distance, lowest layer",
        "highest_layer_mean": "mean distance, highest layer",
        "local_heads": "local heads",
        "uniform": "distance of even attention",
    },
    unit="pixels",
    units={"local_heads": "number"},
)

# Greys and marks, since the palette's colours stand for models.
LOOKS: dict[str, tuple[dict[str, Any], ...]] = {
    "low": tuple({"color": c, "marker": "o", "linestyle": "-"} for c in ("k", "0.5")),
    "high": tuple({"color": c, "marker": "s", "linestyle": "--", "mfc": "w"} for c in ("0.5", "k")),
}


def patch_distances(
    grid_height: int, grid_width: int, patch: float | tuple[float, float]
) -> torch.Tensor:
    """Return the distances in pixels between patch centres, (patches, patches), row by row.

    >>> patch_distances(1, 3, 4.0)[0].tolist()
    [0.0, 4.0, 8.0]
    """
    rows, columns = torch.meshgrid(
        torch.arange(grid_height, dtype=torch.float64),
        torch.arange(grid_width, dtype=torch.float64),
        indexing="ij",
    )
    centres = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    centres *= torch.tensor(patch, dtype=torch.float64)
    return torch.linalg.vector_norm(centres[:, None] - centres[None, :], dim=-1)


def attention_distance(
    weights: torch.Tensor,
    grid_height: int,
    grid_width: int,
    patch: float | tuple[float, float],
    prefix: int = 0,
    *,
    renormalise: bool = True,
) -> torch.Tensor:
    """Return each head's mean attention distance in pixels, (…, heads).

    Args:
        weights: (…, heads, T, T) with T = prefix + grid_height · grid_width; each row a
            distribution over keys.
        grid_height: patches from top to bottom.
        grid_width: patches from left to right.
        patch: side of a patch in pixels of the model's input, or its height and width.
        prefix: class and register tokens before the patches; their rows and columns are dropped.
        renormalise: whether what a query gives to the patches is made to sum to 1; otherwise a
            head that attends to the class token counts as local.

    Returns:
        mean over query patches i of Σ_j A_ij · ‖pos_i − pos_j‖₂, from 0 (each patch attends to
        itself) to the grid's diagonal; NaN where a query gives nothing to any patch and
        `renormalise` is asked for.

    Raises:
        ValueError: the grid does not fit the weights.

    Source: Raghu et al. 2021, Sec. 4 and Fig. 3.

    >>> to_itself = torch.eye(5).expand(2, 5, 5)
    >>> attention_distance(to_itself, 2, 2, patch=4.0, prefix=1).tolist()
    [0.0, 0.0]
    """
    tokens = prefix + grid_height * grid_width
    if weights.ndim < 3 or weights.shape[-2:] != (tokens, tokens):
        raise ValueError(
            f"expected weights (…, heads, {tokens}, {tokens}) for {prefix} prefix tokens and "
            f"{grid_height}×{grid_width} patches, got {tuple(weights.shape)}"
        )
    patches = weights[..., prefix:, prefix:]
    distances = patch_distances(grid_height, grid_width, patch).to(patches)
    sums = torch.einsum("...qk,qk->...q", patches, distances)
    if renormalise:
        sums = sums / patches.sum(dim=-1)
    return sums.mean(dim=-1)


def uniform_distance(
    grid_height: int, grid_width: int, patch: float | tuple[float, float]
) -> float:
    """Return the distance in pixels of attention spread evenly over the patches.

    >>> uniform_distance(1, 2, 4.0)  # half of it stays, half goes 4 pixels
    2.0
    """
    return float(patch_distances(grid_height, grid_width, patch).mean())


def start(study: Study) -> Accumulator:
    """Begin attention distances of the models that attend over one grid of tokens."""
    return _Distances(study, *attending_models(study, "no attention distance"))


def distance_point(layer: str, model: Attending) -> HookPoint:
    """Return the hook point of how far a layer's heads look, (n, heads) float64 in pixels."""
    grid = model.grid

    def take(weights: torch.Tensor) -> torch.Tensor:
        return attention_distance(
            weights, grid.height, grid.width, grid.patch_sides, grid.num_prefix_tokens
        ).double()

    return HookPoint(layer, "attention", taken="distance", take=take)


class _Distances(Accumulator):
    """Keeps one sum per head."""

    gathers = ("sums",)

    def __init__(self, study: Study, models: dict[int, Attending], notes: list[str]) -> None:
        self.networks, self.models, self.notes = study.networks, models, notes
        self.sums = {s: {name: GroupedMean() for name in m.layers} for s, m in models.items()}

    def hook_points(self, index: int) -> list[HookPoint]:
        return [distance_point(name, self.models[index]) for name in self.sums.get(index, ())]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        self.sums[index][hook_point.layer].add(value.cpu().numpy())

    def result(self) -> Result:
        found, coordinates = by_head(
            self.networks,
            self.models,
            [total.result() for sums in self.sums.values() for total in sums.values()],
        )
        scale = Scale("mean attention distance")
        variables = replicated("distance", ("layer", "head"), found, unit="pixels", scale=scale)
        data = xr.Dataset(variables, coordinates)
        metrics: list[Metric] = []
        for s, model in self.models.items():
            own = select_heads(data["distance"], model.name).values
            uniform = uniform_distance(model.grid.height, model.grid.width, model.grid.patch_sides)
            summed = summary(own, uniform)
            metrics += [Metric(what, value, model.name) for what, value in summed.items()]
            if self.networks[s].compared:
                self._note_lost(s, model)
                self.notes += [
                    f"{model.name}: {what} is not defined: a head's distance is not defined"
                    for what, value in summed.items()
                    if not math.isfinite(value)
                ]
        return Result(data, metrics=tuple(metrics), notes=tuple(self.notes))

    def _note_lost(self, s: int, model: Attending) -> None:
        for layer, total in self.sums[s].items():
            lost = total.images - total.count
            self.notes += [
                f"{model.name}: {layer} head {head + 1} has no distance on {lost[head]} of "
                f"{total.images} images: a patch attends to no patch there, or attention is not "
                "finite"
                for head in np.flatnonzero(lost)
            ]


def summary(distances: NDArray[np.float64], uniform: float) -> dict[str, float]:
    """Return what the papers' claims rest on.

    Args:
        distances: (layers, heads) in pixels, from the lowest layer up.
        uniform: the distance of even attention, in pixels.

    Returns:
        means of the lowest and of the highest layer, and the number of local heads, nearer than
        `LOCAL` times `uniform`.
    """
    local = int((distances < LOCAL * uniform).sum())
    return {
        "lowest_layer_mean": float(distances[0].mean()),
        "highest_layer_mean": float(distances[-1].mean()),
        # A head without a distance is neither local nor global: the count is then not known.
        "local_heads": math.nan if np.isnan(distances).any() else local,
        "uniform": uniform,
    }


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw each model's heads in order of distance, and layer by layer."""
    names = [name for name in compared if name in result.networks]
    # Over even attention's distance, models of any input size and patch share an axis.
    heads = {
        name: select_heads(result.data["distance"], name).values
        / (result.metric("uniform", name) or math.nan)
        for name in names
    }
    tallest = max((np.nanmax(ratios, initial=1) for ratios in heads.values()), default=1)
    drawn = []
    for name, ratios in heads.items():
        with style.styled():
            figure, (left, right) = style.line_panels(2, size=(3.05, 2.1), left=0.64)
            looks = _layer_looks(len(ratios))
            _draw_sorted(left, ratios, looks)
            _draw_by_layer(right, ratios, looks)
            for axis in (left, right):
                axis.axhline(1, color="0.3", lw=0.8, ls=":", label="even attention")
                axis.axhspan(0, LOCAL, color="0.93", lw=0, zorder=0)
                axis.text(
                    0.98, LOCAL - 0.03, "local", transform=axis.get_yaxis_transform(),
                    ha="right", va="top", fontsize=7, color="0.4",
                )  # fmt: skip
                axis.set_ylim(0, 1.08 * tallest)
                axis.legend(loc="best")
            left.set_ylabel("mean attention distance\n/ that of even attention")
            left.set_title(name, loc="left")
        drawn.append(Drawing("attention-distance-{}", figure, (name,)))
    return drawn


def _layer_looks(layers: int) -> dict[int, dict[str, Any]]:
    """Return how the two lowest and the two highest layers are drawn, by index."""
    low = list(range(min(2, layers)))
    high = [i for i in range(max(0, layers - 2), layers) if i not in low]
    chosen = zip(low, LOOKS["low"], strict=False)
    return dict(chosen) | dict(zip(high, LOOKS["high"][-len(high) :], strict=False))


def _draw_sorted(axis: Axes, distances: NDArray[np.float64], looks: dict[int, Any]) -> None:
    places = np.arange(1, distances.shape[1] + 1)
    for i, heads in enumerate(distances):
        if look := looks.get(i):
            label = f"layer {i + 1}"
            axis.plot(places, np.sort(heads), **look, lw=1.2, ms=3.5, zorder=3, label=label)
        else:
            axis.plot(places, np.sort(heads), color="0.8", lw=0.8, zorder=1)
    if len(looks) < len(distances):
        axis.plot([], [], color="0.8", lw=0.8, label="layers between")
    axis.set_xlabel("heads, from nearest to farthest")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_by_layer(axis: Axes, distances: NDArray[np.float64], looks: dict[int, Any]) -> None:
    for i, heads in enumerate(distances):
        look = looks.get(i, {"color": "0.7", "marker": "o"}) | {"linestyle": ""}
        axis.plot(np.full(len(heads), i + 1), heads, **look, ms=3.5, alpha=0.6)
    axis.plot(
        np.arange(1, len(distances) + 1), distances.mean(axis=1), "k_",
        ms=min(14.0, 240 / len(distances)), label="mean of heads",
    )  # fmt: skip
    axis.set_xlabel("layer, from input to output")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlim(0.4, len(distances) + 0.6)
