"""A variable without each group of images: kept in results, and resampled from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.measures.replicates import Replicates
from zoo.study.axes import Scale, select, variable

if TYPE_CHECKING:
    import xarray as xr

WITHOUT = "_without"  # ends the name of the variable that holds the replicates of another


def replicated(
    name: str,
    dims: str | Sequence[str],
    found: Replicates,
    *,
    unit: str = "",
    scale: Scale | None = None,
) -> dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]]:
    """Return a variable and its replicates as another one, `<name>_without`; none without groups.

    The first dimension of that is `replicate`. Its attributes `weight` and `freedom` are those of
    `zoo.measures.replicates.Replicates`.
    """
    whole = {name: variable(dims, found.whole, unit=unit, scale=scale)}
    if found.freedom < 1:
        return whole
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    known = {"weight": found.weight, "freedom": found.freedom}
    without = found.without.astype(np.float32)
    return whole | {name + WITHOUT: (("replicate", *dims), without, known)}


def replicates_of(
    data: xr.Dataset, name: str, network: str = "", network_b: str = "", **equal: Any
) -> Replicates:
    """Return a variable, selected as by `select`, whole and without each group of images.

    Where its replicates were not kept, there are no groups.
    """
    whole = select(data[name], network, network_b, **equal).values.astype(np.float64)
    if name + WITHOUT not in data:
        return Replicates(whole, np.empty((0, *whole.shape)), np.empty(0), 0)
    kept = data[name + WITHOUT]
    without = select(kept, network, network_b, **equal).values.astype(np.float64)
    weight = np.atleast_1d(kept.attrs["weight"])
    return Replicates(whole, without, weight, int(kept.attrs["freedom"]))


def draws_of(
    data: xr.Dataset, name: str, network: str = "", network_b: str = "", **equal: Any
) -> NDArray[np.float64]:
    """Return a variable, selected as by `select`, and what it might be on other images.

    Returns:
        (1 + draws, …) as by `Replicates.draws`; the variable alone where there are no groups.
    """
    return replicates_of(data, name, network, network_b, **equal).draws()
