"""What a comparison found, as labelled numbers: selected by network and layer, never by parsing.

Every analysis gives a `Result`: variables of an `xarray.Dataset` on labelled axes, scalars as a
table of `Metric`, and notes. An axis that runs over several networks carries the coordinate
`network` (a second such axis `network_b`); the axis `layer` carries `name`, `role`, `block` and
`depth` too. What has another size in every network, such as a map, is a `Part`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # xarray takes a second to import; the claims are listed without it
    import xarray as xr

    from zoo.study.networks import ComparedNetwork

CI_BOUNDS = ("lower", "upper")
TRAINED, INITIAL = "trained", "initial"
MAPS = "maps"  # the group of what is of one network alone


@dataclass(frozen=True)
class Network:
    """A network that took part in a comparison, as its results know it.

    `name` is unique within the comparison. `model` is the compared model that it belongs to;
    `state` is `trained` or `initial` (the same architecture before training). `compared` says
    whether it was asked for; the others are references. `class_token` says whether its classifier
    reads one.
    """

    name: str
    model: str
    state: str
    compared: bool
    seed: int
    arch: str
    kwargs: str
    family: str
    parameters: int
    image_size: int
    source: str
    subset: str
    subset_digest: str
    images: int
    class_token: bool


@dataclass(frozen=True)
class Metric:
    """A scalar of one network, of a pair of them, or of the whole comparison.

    `low` and `high` are the ends of its 95 % interval, NaN where it has none. `pair` says what
    becomes of a pair's metric when the pair is turned round: it is `symmetric`, it changes its
    sign (`signed`), or it is another number (`directed`). A count is an int.
    """

    measure: str
    value: float
    network: str = ""
    network_b: str = ""
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    pair: str = "symmetric"

    def turned(self) -> Metric | None:
        """Return the metric of the pair in the other order; None where it does not follow."""
        if self.pair == "directed":
            return None
        metric = dataclasses.replace(self, network=self.network_b, network_b=self.network)
        if self.pair == "symmetric":
            return metric
        return dataclasses.replace(metric, value=-self.value, low=-self.high, high=-self.low)


@dataclass(frozen=True)
class Part:
    """Variables of one network, of one of its layers, or of a pair, whose axes are its own."""

    network: str
    data: xr.Dataset
    layer: str = ""
    network_b: str = ""


@dataclass(frozen=True)
class Scale:
    """How maps of one kind are named and coloured, in figures and in the page alike.

    `low` and `high` are the values of the darkest and the brightest colour; None is each map's
    own lowest or highest. Colours follow the logarithm where `log`. `empty` is what is said of a
    map that is 0 everywhere. It travels as the attributes of a variable.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    empty: str = ""

    def attributes(self) -> dict[str, Any]:
        """Return it as attributes that a file can keep."""
        known = {"long_name": self.label, "low": self.low, "high": self.high, "empty": self.empty}
        kept = {key: value for key, value in known.items() if value not in (None, "")}
        return kept | ({"log": 1} if self.log else {})

    @classmethod
    def of(cls, variable: xr.DataArray) -> Scale:
        """Return the scale of a variable; its name in words where it has none of its own."""
        known = variable.attrs
        label = str(known.get("long_name", str(variable.name).replace("_", " ")))
        # From a file, attributes come back as NumPy's scalars.
        low, high = (None if (end := known.get(k)) is None else float(end) for k in ("low", "high"))
        return cls(label, low, high, bool(known.get("log")), str(known.get("empty", "")))

    @property
    def ends(self) -> tuple[float, float]:
        """Return its low and high, for figures whose maps share them.

        Raises:
            ValueError: each map has its own.
        """
        if self.low is None or self.high is None:
            raise ValueError(f"expected a scale with two ends, got {self.low} and {self.high}")
        return self.low, self.high


@dataclass(frozen=True)
class Result:
    """What an analysis found.

    `data` holds its variables; an interval is a variable of its own, `<name>_ci`, with the
    dimension `ci_bound` and the attributes `ci_prob` and `ci_kind`. `notes` say what did not
    apply or was degenerate, naming the network and layer. `images` is how many images it measured
    on, where those are not all of the study.
    """

    data: xr.Dataset = field(default_factory=lambda: _dataset({}))
    parts: tuple[Part, ...] = ()
    metrics: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()
    images: int | None = None

    def find(self, measure: str, network: str = "", network_b: str = "") -> Metric | None:
        """Return a metric, of a pair in either order; None without one, or if it is not finite."""
        for metric in self.metrics:
            if metric.measure == measure and math.isfinite(metric.value):
                if (metric.network, metric.network_b) == (network, network_b):
                    return metric
                turned = metric.turned() if network_b else None
                if turned and (turned.network, turned.network_b) == (network, network_b):
                    return turned
        return None

    def metric(self, measure: str, network: str = "", network_b: str = "") -> float | None:
        """Return a metric's value, as `find` does."""
        found = self.find(measure, network, network_b)
        return None if found is None else found.value

    def part(self, network: str, layer: str = "", network_b: str = "") -> xr.Dataset:
        """Return the variables that are a network's own, one of its layers', or a pair's.

        Raises:
            KeyError: there are none.
        """
        for part in self.parts:
            if (part.network, part.layer, part.network_b) == (network, layer, network_b):
                return part.data
        raise KeyError(" ".join(text for text in ("no part of", network, layer, network_b) if text))

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of the networks that its variables and parts are of, each once, in order."""
        along = [self.data[c].values for c in ("network", "network_b") if c in self.data.coords]
        named = [str(name) for values in along for name in np.atleast_1d(values)]
        named += [name for part in self.parts for name in (part.network, part.network_b) if name]
        return tuple(dict.fromkeys(named))


def _dataset(variables: Mapping[str, Any]) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset(variables)


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
        kind: what it is over and how it was found, such as `jackknife over batches`.
        unit: of the ends.
    """
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    ends = np.stack([np.asarray(low, float), np.asarray(high, float)], axis=-1)
    attributes = {"ci_prob": 0.95, "ci_kind": kind} | ({"units": unit} if unit else {})
    return (*dims, "ci_bound"), ends, attributes


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
    at = [_block_of(blocks[id(network)], name) for network, name in rows]
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


def _block_of(blocks: Sequence[str], layer: str) -> int:
    for i, block in enumerate(blocks):
        if layer == block or layer.startswith((f"{block}.", f"{block}#")):
            return i
    return -1


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


def column(values: Sequence[Any]) -> NDArray[Any]:
    """Return values as an array that a file can keep: text as objects, whatever its length."""
    values = list(values)
    text = bool(values) and isinstance(values[0], str)
    return np.array(values, dtype=object if text else None)


def select(values: xr.DataArray, network: str = "", network_b: str = "", **equal: Any) -> Any:
    """Return what is of one network, or of a pair, of a variable.

    Args:
        values: has the coordinate `network`, and for pairs `network_b`.
        network: of the first axis over networks; all where empty.
        network_b: of the second one.
        equal: other coordinates and the value, or several values, that they are to have.

    >>> import xarray as xr
    >>> depth = xr.DataArray([0.5, 1.0, 1.0], dims="layer")
    >>> depth = depth.assign_coords(network=("layer", ["a", "a", "b"]))
    >>> select(depth, "a").values.tolist()
    [0.5, 1.0]
    """
    wanted = {"network": network, "network_b": network_b} | equal
    for coordinate, value in wanted.items():
        if isinstance(value, str) and not value:
            continue
        among = [value] if isinstance(value, str | int | float) else list(value)
        (axis,) = values.coords[coordinate].dims
        values = values.isel({axis: np.isin(values.coords[coordinate].values, among)})
    return values


def present(values: xr.DataArray | xr.Dataset, coordinate: str = "network") -> tuple[str, ...]:
    """Return the different values of a coordinate of text, in order."""
    if coordinate not in values.coords:
        return ()
    return tuple(dict.fromkeys(str(v) for v in np.atleast_1d(values.coords[coordinate].values)))


@dataclass(frozen=True)
class ComparisonResults:
    """What all analyses of a comparison found.

    `images` is how many images the networks saw, `shown` which of them figures show. `provenance`
    says what the numbers come from, as JSON values.
    """

    networks: tuple[Network, ...]
    results: Mapping[str, Result]
    not_applicable: Mapping[str, str]
    images: int
    class_names: tuple[str, ...] = ()
    shown: tuple[int, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def compared(self) -> tuple[Network, ...]:
        """The networks that were asked for, without their references, in order."""
        return tuple(network for network in self.networks if network.compared)

    def initial(self, network: Network) -> Network | None:
        """Return a compared network as it was before training; None where it took no part."""
        for other in self.networks:
            if (other.model, other.state) == (network.model, INITIAL):
                return other
        return None

    def metrics(self) -> Iterator[tuple[str, Metric]]:
        """Yield every metric with the name of its analysis."""
        for analysis, result in self.results.items():
            for metric in result.metrics:
                yield analysis, metric

    def to_tree(self) -> xr.DataTree:
        """Return everything as one labelled tree: a group an analysis, and `maps` of networks."""
        import xarray as xr

        columns = [f.name for f in dataclasses.fields(Network)]
        table = {
            key: ("network", column([getattr(n, key) for n in self.networks])) for key in columns
        }
        networks = xr.Dataset(table).rename(name="network")
        groups = {"/": xr.Dataset(attrs=self._attributes()), "/networks": networks}
        for analysis, result in self.results.items():
            groups[f"/{analysis}"] = result.data.assign_attrs(
                notes=_lines(result.notes), images=result.images or self.images
            )
            groups |= _parts(f"/{MAPS}/{analysis}", result.parts)
        groups["/metrics"] = self.to_dataset()
        return xr.DataTree.from_dict(groups)

    def _attributes(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "class_names": _lines(self.class_names),
            "shown": list(self.shown),
            "provenance": json.dumps(self.provenance),
            "not_applicable": _lines(self.not_applicable),
            "not_applicable_since": _lines(self.not_applicable.values()),
        }

    def to_dataset(self) -> xr.Dataset:
        """Return every metric as a table: a row each, with what decides it."""
        rows = list(self.metrics())
        columns: dict[str, list[Any]] = {"analysis": [analysis for analysis, _ in rows]}
        for key in (f.name for f in dataclasses.fields(Metric)):
            columns[key] = [getattr(metric, key) for _, metric in rows]
        columns["n"] = [self.results[analysis].images or self.images for analysis, _ in rows]
        columns["is_count"] = [isinstance(metric.value, int) for _, metric in rows]
        return _dataset({key: ("row", column(values)) for key, values in columns.items()})

    def to_frame(self) -> Any:
        """Return every metric as a `pandas.DataFrame`.

        Its columns are analysis, measure, network, network_b, value, low, high (the 95 % interval,
        NaN without one), n (images) and unit.
        """
        table = self.to_dataset().to_dataframe()
        order = ["analysis", "measure", "network", "network_b", "value", "low", "high", "n", "unit"]
        return table.reset_index(drop=True)[order]

    @classmethod
    def from_tree(cls, tree: xr.DataTree) -> ComparisonResults:
        """Return what `to_tree` made a tree of."""
        table = tree["networks"].to_dataset()
        networks = tuple(
            Network(str(name), **{str(k): _value(table[k].values[i]) for k in table.data_vars})
            for i, name in enumerate(table["network"].values)
        )
        metrics = _metrics(tree["metrics"].to_dataset())
        known = tree.attrs
        maps = tree.children[MAPS].children if MAPS in tree.children else {}
        count = int(known["images"])
        results = {}
        for analysis, node in tree.children.items():
            if analysis in ("networks", "metrics", MAPS):
                continue
            data = node.to_dataset(inherit=False)
            notes, images = _split(data.attrs.pop("notes")), int(data.attrs.pop("images"))
            found = tuple(metrics.get(analysis, ()))
            own = images if images != count else None
            parts = tuple(_read_parts(maps[analysis])) if analysis in maps else ()
            results[str(analysis)] = Result(data, parts, found, notes, own)
        idle = zip(
            _split(known["not_applicable"]), _split(known["not_applicable_since"]), strict=True
        )
        shown = tuple(int(i) for i in np.atleast_1d(known["shown"]))
        classes, provenance = _split(known["class_names"]), json.loads(known["provenance"])
        return cls(networks, results, dict(idle), count, classes, shown, provenance)


def _lines(texts: Iterable[str]) -> str:
    """Return texts as one attribute: a line each, since none of them holds a line's end."""
    return "\n".join(" ".join(text.splitlines()) for text in texts)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _parts(group: str, parts: Sequence[Part]) -> dict[str, xr.Dataset]:
    """Return parts as groups. What a group is of stands in its attributes; its name only helps."""
    groups: dict[str, xr.Dataset] = {}
    for part in parts:
        # A slash would be a group within a group, whose axes have to be those of the outer one.
        of = {"network": part.network, "layer": part.layer, "network_b": part.network_b}
        path = f"{group}/{' '.join(filter(None, of.values())).replace('/', '∕')}"
        while path in groups:
            path += "'"
        groups[path] = part.data.assign_attrs(of)
    return groups


def _read_parts(node: xr.DataTree) -> Iterator[Part]:
    for child in node.children.values():
        data = child.to_dataset(inherit=False)
        of = {key: str(data.attrs.pop(key)) for key in ("network", "layer", "network_b")}
        yield Part(data=data, **of)


def _metrics(table: xr.Dataset) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    fields = [f.name for f in dataclasses.fields(Metric)]
    for i in range(table.sizes["row"]):
        row = {key: _value(table[key].values[i]) for key in fields}
        if table["is_count"].values[i]:
            row["value"] = int(row["value"])
        found.setdefault(str(table["analysis"].values[i]), []).append(Metric(**row))
    return found


def _value(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
