"""Lines over several seeds: the mean, with a band of its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.measures.intervals import UNBOUNDED, Range, mean_interval
from zoo.study.axes import select
from zoo.study.results import INITIAL, TRAINED

if TYPE_CHECKING:
    import xarray as xr


def seed_line(
    values: xr.DataArray,
    model: str,
    ends: Sequence[Any] | NDArray[Any] = (),
    *,
    within: Range = UNBOUNDED,
) -> tuple[str, NDArray[np.float64], Sequence[Any]]:
    """Return how a legend calls a model, its line, and the ends of the band around it.

    Args:
        values: along `layer`, of all networks.
        model: the compared network.
        ends: of the band of one seed.
        within: between what the values lie.

    Returns:
        Of several seeds a text such as `vit-small (3 seeds)`, the mean (layers,) and the ends of
        its interval over seeds; of one its name, its values and `ends`.
    """
    rows = _by_network(select(values, model=model, state=TRAINED))
    if len(rows) < 2:  # of a network without layers there is no row
        return model, rows.ravel(), list(ends)
    mean, *ends = mean_interval(rows, within)
    return f"{model} ({len(rows)} seeds)", mean, ends


def untrained_line(values: xr.DataArray, model: str) -> tuple[NDArray, NDArray] | None:
    """Return depths and the mean over seeds of a model before training; None if unmeasured."""
    own = select(values, model=model, state=INITIAL)
    rows = _by_network(own)
    return (own["depth"].values[: rows.shape[1]], rows.mean(axis=0)) if own.size else None


def _by_network(values: xr.DataArray) -> NDArray[np.float64]:
    """Return values along `layer` as (networks, layers), of networks with the same layers."""
    names = dict.fromkeys(values["network"].values)
    return np.stack([select(values, name).values for name in names]) if names else np.empty((0, 0))
