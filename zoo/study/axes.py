"""Variables and axes of labelled results: how an analysis makes them, and how they are selected.

An axis that runs over several networks carries the coordinates `network`, `model`, `state` and
`seed` (those of a second such axis end in `_b`); the axis `layer` carries `name`, `role`, `block`
and `depth` too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.study.networks import block_of
from zoo.study.results import OF_A_NETWORK, column

if TYPE_CHECKING:  # xarray takes a second to import
    import xarray as xr

    from zoo.study.networks import ComparedNetwork
    from zoo.study.results import Network

CI_BOUNDS = ("lower", "upper")  # of the axis `ci_bound`


@dataclass(frozen=True)
class Scale:
    """How maps of one kind are named and coloured, in figures and in the page alike.

    `low` and `high` are the values of the darkest and the brightest colour; None is each map's
    own lowest or highest. Colours follow the logarithm where `log`. `empty` is what is said of a
    map that is 0 everywhere. Over an image, places of at least `outlined` have an outline: a value,
    or a share of the map's own highest where `high` is None. It travels as the attributes of a
    variable.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    empty: str = ""
    outlined: float | None = None

    def attributes(self) -> dict[str, Any]:
        """Return the scale as attributes that a file can hold."""
        known = {
            "long_name": self.label, "low": self.low, "high": self.high, "empty": self.empty,
            "outlined": self.outlined,
        }  # fmt: skip
        kept = {key: value for key, value in known.items() if value not in (None, "")}
        return kept | ({"log": 1} if self.log else {})

    @classmethod
    def of(cls, variable: xr.DataArray) -> Scale:
        """Return the scale of a variable; its name in words where it has none of its own."""
        known = variable.attrs
        label = str(known.get("long_name", str(variable.name).replace("_", " ")))
        # From a file, attributes come back as NumPy's scalars.
        low, high, outlined = (
            None if (end := known.get(k)) is None else float(end)
            for k in ("low", "high", "outlined")
        )
        empty = str(known.get("empty", ""))
        return cls(label, low, high, bool(known.get("log")), empty, outlined)

    @property
    def ends(self) -> tuple[float, float]:
        """Return its low and high, for figures whose maps share them.

        Raises:
            ValueError: each map has its own.
        """
        if self.low is None or self.high is None:
            raise ValueError(f"expected a scale with two ends, got {self.low} and {self.high}")
        return self.low, self.high


def variable(
    dims: str | Sequence[str],
    values: NDArray[Any] | Sequence[Any] | float,
    *,
    unit: str = "",
    scale: Scale | None = None,
) -> tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]:
    """Return a variable as `xarray.Dataset` takes it, with its unit and how it is drawn."""
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    attributes = scale.attributes() if scale else {}
    return dims, np.asarray(values), attributes | ({"units": unit} if unit else {})


def interval(
    dims: str | Sequence[str],
    low: NDArray[Any] | float,
    high: NDArray[Any] | float,
    *,
    kind: str,
    unit: str = "",
) -> tuple[tuple[str, ...], NDArray[np.float64], dict[str, Any]]:
    """Return a 95 % interval as a variable: `dims` and at last `ci_bound`.

    Args:
        dims: of the values that it belongs to.
        low: its lower ends.
        high: its upper ends.
        kind: what it is over and how it was found, such as `Wilson over images`.
        unit: of the ends.
    """
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    ends = np.stack([np.asarray(low, float), np.asarray(high, float)], axis=-1)
    attributes = {"ci_prob": 0.95, "ci_kind": kind} | ({"units": unit} if unit else {})
    return (*dims, "ci_bound"), ends, attributes


def estimate(
    name: str,
    dims: str | Sequence[str],
    values: NDArray[Any] | Sequence[Any],
    *,
    kind: str,
    unit: str = "",
    scale: Scale | None = None,
) -> dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]]:
    """Return a variable and its 95 % interval, `<name>_ci`, as `xarray.Dataset` takes them.

    Args:
        name: of the variable.
        dims: of its values.
        values: (3, …): the values, the lower and the upper ends of their intervals.
        kind: what the intervals are over and how they were found, as in `interval`.
        unit: of the values and the ends.
        scale: how the values are drawn.
    """
    value, low, high = values
    return {
        name: variable(dims, value, unit=unit, scale=scale),
        f"{name}_ci": interval(dims, low, high, kind=kind, unit=unit),
    }


def layer_axis(
    rows: Sequence[tuple[ComparedNetwork, str]], axis: str = "layer"
) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return the coordinates of an axis of layers, of any number of networks.

    Args:
        rows: network and layer, in the order of the axis.
        axis: `layer`, or `layer_b` for a second one, whose coordinates end in `_b` as well.

    Returns:
        `network`, `model` (the compared network that it belongs to), `state`, `name`, `role`
        (`stem`, `block`, `inner`, `head`), `block` (counted from 0, that the layer is or lies in;
        −1 in none) and `depth` (0 to 1: blocks done over all blocks; of a network without blocks,
        layers over all layers).
    """
    end = axis.removeprefix("layer")
    blocks = {id(network): network.trace.of_role("block") for network, _ in rows}
    at = [block_of(blocks[id(network)], name) for network, name in rows]
    roles = [network.trace[name].role for network, name in rows]
    depth = [
        _depth(network, name, role, block)
        for (network, name), role, block in zip(rows, roles, at, strict=True)
    ]
    columns: dict[str, list[Any]] = {
        "network": [network.name for network, _ in rows],
        "model": [network.of or network.name for network, _ in rows],
        "state": [network.state for network, _ in rows],
        "name": [name for _, name in rows],
        "role": roles,
        "block": at,
        "depth": depth,
    }
    return {f"{key}{end}": (axis, column(values)) for key, values in columns.items()}


def labelled(data: xr.Dataset, networks: Sequence[Network]) -> xr.Dataset:
    """Return variables with what is known of the networks on each axis, and the ends of intervals.

    Args:
        data: an analysis's variables; its axes over networks name these.
        networks: all that took part.
    """
    known = {network.name: network for network in networks}
    for end in ("", "_b"):
        if f"network{end}" not in data.coords or data.coords[f"network{end}"].ndim != 1:
            continue
        names = data.coords[f"network{end}"]
        on_axis = [known[str(name)] for name in names.values]
        columns = {key: column([getattr(of, key) for of in on_axis]) for key in OF_A_NETWORK}
        data = data.assign_coords({f"{k}{end}": (names.dims, v) for k, v in columns.items()})
    return data.assign_coords(ci_bound=column(CI_BOUNDS)) if "ci_bound" in data.dims else data


def _depth(network: ComparedNetwork, layer: str, role: str, block: int) -> float:
    blocks = network.trace.of_role("block")
    if block >= 0:
        return (block + 1) / len(blocks)
    if not blocks and layer in network.layers:
        return (network.layers.index(layer) + 1) / len(network.layers)
    if not blocks:
        return {"stem": 0.0, "head": 1.0}.get(role, math.nan)
    names = [found.name for found in network.trace]
    return sum(names.index(block) < names.index(layer) for block in blocks) / len(blocks)


def head_counts(heads: Sequence[int]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return the coordinate `heads` of an axis of attention layers: how many each of them has.

    Where variables over (layer, head) are wider than that, they hold other networks' heads.
    """
    return {"heads": ("layer", np.asarray(heads, int))}


def select_heads(values: xr.DataArray, network: str) -> xr.DataArray:
    """Select a network's layers and heads of a variable over (layer, head) with `heads`.

    A head that is NaN in every layer is one of them.
    """
    own: xr.DataArray = select(values, network)
    return own.isel(head=slice(int(own["heads"].values.max(initial=0))))


def select(values: xr.DataArray, network: str = "", network_b: str = "", **equal: Any) -> Any:
    """Select as `zoo.select` does; of what is not on an axis, nothing."""
    wanted = {"network": network, "network_b": network_b} | equal
    for coordinate, value in wanted.items():
        if isinstance(value, str) and not value:
            continue
        among = [value] if isinstance(value, str | int | float) else list(value)
        (axis,) = values.coords[coordinate].dims
        values = values.isel({axis: np.isin(values.coords[coordinate].values, among)})
    return values
