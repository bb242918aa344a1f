"""Lines over several seeds: the mean, with a band of its 95 % interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.measures.intervals import UNBOUNDED, Range, mean_interval
from zoo.study.axes import select
from zoo.study.results import INITIAL, TRAINED

if TYPE_CHECKING:
    import xarray as xr


def seed_band(
    values: xr.DataArray, model: str, within: Range = UNBOUNDED
) -> tuple[str, NDArray[np.float64]] | None:
    """Return how a legend calls a model of several seeds, and its line; None of one seed.

    Args:
        values: along `layer`, of all networks.
        model: the compared network.
        within: between what the values lie.

    Returns:
        A text such as `vit-small (3 seeds)`, and (3, layers): mean, lower and upper end.
    """
    rows = _by_network(select(values, model=model, state=TRAINED))
    return (f"{model} ({len(rows)} seeds)", mean_interval(rows, within)) if len(rows) > 1 else None


def untrained_line(values: xr.DataArray, model: str) -> tuple[NDArray, NDArray] | None:
    """Return depths and the mean over seeds of a model before training; None if unmeasured."""
    own = select(values, model=model, state=INITIAL)
    rows = _by_network(own)
    return (own["depth"].values[: rows.shape[1]], rows.mean(axis=0)) if own.size else None


def _by_network(values: xr.DataArray) -> NDArray[np.float64]:
    """Return values along `layer` as (networks, layers), of networks with the same layers."""
    names = dict.fromkeys(values["network"].values)
    return np.stack([select(values, name).values for name in names]) if names else np.empty((0, 0))
