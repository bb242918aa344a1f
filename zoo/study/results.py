"""What a comparison found, as labelled numbers: selected by network and layer, never by parsing.

Every analysis gives a `Result`: variables of an `xarray.Dataset` on labelled axes, scalars as a
table of `Metric`, and notes. What has another size in every network, such as a map, is a `Part`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.measures.intervals import UNBOUNDED, Range

if TYPE_CHECKING:  # xarray takes a second to import; the claims are listed without it
    import xarray as xr


TRAINED, INITIAL = "trained", "initial"
# What an axis over networks, and each row of the table of metrics, says of a network.
OF_A_NETWORK = "model", "state", "seed"
NO_ANSWER = -1  # the class of an image on which outputs are not numbers
# What is said of a network whose numbers are not those of its weights and of each image.
NOT_DETERMINISTIC = (
    "is not deterministic: two passes over the same images differ, as with dropout that stays on "
    "in eval mode or a state that each pass changes, so all of its numbers change from run to run"
)
MIXES_IMAGES = (
    "answers an image differently beside other images, as a norm does that takes its statistics "
    "from the batch, so all of its numbers depend on which images share a batch"
)
SIGNED = "signed share"  # the unit of a similarity, a correlation, or a difference of shares
# Between what a metric lies, by its unit. Those of other units, such as a logarithm, have no ends.
RANGES: dict[str, Range] = {
    "": (0.0, 1.0),
    SIGNED: (-1.0, 1.0),
    "share of half the diagonal": (0.0, 1.0),
    **dict.fromkeys(("number", "ratio", "pixels", "nats"), (0.0, math.inf)),
}


def name_varying(name: str, *, deterministic: bool, mixes_images: bool) -> list[str]:
    """Name a network whose answer for an image does not rest on that image alone; else nothing."""
    if not deterministic:
        return [f"{name} {NOT_DETERMINISTIC}"]
    return [f"{name} {MIXES_IMAGES}"] if mixes_images else []


@dataclass(frozen=True)
class Network:
    """A network that took part in a comparison.

    `name` is unique within the comparison. `model` is the compared model that it belongs to;
    `state` is `trained` or `initial` (the same architecture before training). `compared` is
    true if it was asked for; the others are references. `class_token` is true if its classifier
    reads one. A network that is not `deterministic` gives different outputs for the same images
    each time; of one that `mixes_images` they depend on which images share a batch.
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
    deterministic: bool = True
    mixes_images: bool = False


@dataclass(frozen=True)
class Metric:
    """A scalar of one network, of a pair of them, or of the whole comparison.

    `low` and `high` are the ends of its 95 % interval, NaN where it has none. `pair` says what
    happens to a pair's metric when the pair is reversed: it stays the same (`symmetric`), changes
    its sign (`signed`), or is a different number (`directed`). A count is an int. The
    engine fills `unit` from the declaration of the analysis; it is empty for a share.
    """

    measure: str
    value: float
    network: str = ""
    network_b: str = ""
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    pair: str = "symmetric"

    @classmethod
    def of(
        cls,
        measure: str,
        estimate: Iterable[float],
        network: str,
        network_b: str = "",
        *,
        pair: str = "symmetric",
    ) -> Metric:
        """Return a metric of a network or a pair from its value and the ends of its interval."""
        value, low, high = map(float, estimate)
        return cls(measure, value, network, network_b, low, high, pair=pair)

    @property
    def range(self) -> Range:
        """Between what it lies, by its unit; as far below 0 as above where it is signed."""
        low, high = RANGES.get(self.unit, UNBOUNDED)
        return (-high, high) if self.pair == "signed" else (low, high)

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
    """Variables of one network, of one of its layers, or of a pair, with their own axes."""

    network: str
    data: xr.Dataset
    layer: str = ""
    network_b: str = ""


@dataclass(frozen=True)
class Result:
    """The results of one analysis.

    `data` holds its variables; an interval is a separate variable, `<name>_ci`, with the
    dimension `ci_bound` and the attributes `ci_prob` and `ci_kind`. `notes` say what did not
    apply or was degenerate, naming the network and layer. `images` is the number of images it used,
    if these are not all of the study's.
    """

    data: xr.Dataset = field(default_factory=lambda: _dataset({}))
    parts: tuple[Part, ...] = ()
    metrics: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()
    images: int | None = None

    def find(self, measure: str, network: str = "", network_b: str = "") -> Metric | None:
        """Return a metric, for a pair in either order; None if it is missing or not finite."""
        for metric in self.metrics:
            if metric.measure == measure and math.isfinite(metric.value):
                if (metric.network, metric.network_b) == (network, network_b):
                    return metric
                turned = metric.turned() if network_b else None
                if turned and (turned.network, turned.network_b) == (network, network_b):
                    return turned
        return None

    def notes_on(self, networks: Iterable[str]) -> list[str]:
        """Return the notes that are of some networks alone: `a: …`, or of a pair `a and b: …`."""
        names = set(networks)
        return [n for n in self.notes if set(n.partition(": ")[0].split(" and ")) <= names]

    def metric(self, measure: str, network: str = "", network_b: str = "") -> float | None:
        """Return a metric's value, as `find` does."""
        found = self.find(measure, network, network_b)
        return None if found is None else found.value

    def part(self, network: str, layer: str = "", network_b: str = "") -> xr.Dataset:
        """Return the variables of one network, one of its layers, or a pair.

        Raises:
            KeyError: there are none.
        """
        for part in self.parts:
            if (part.network, part.layer, part.network_b) == (network, layer, network_b):
                return part.data
        raise KeyError(" ".join(text for text in ("no part of", network, layer, network_b) if text))

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of the networks in its variables and parts, each once, in order."""
        along = [self.data[c].values for c in ("network", "network_b") if c in self.data.coords]
        named = [str(name) for values in along for name in np.atleast_1d(values)]
        named += [name for part in self.parts for name in (part.network, part.network_b) if name]
        return tuple(dict.fromkeys(named))


def _dataset(variables: Mapping[str, Any]) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset(variables)


@dataclass(frozen=True)
class ComparisonResults:
    """The results of all analyses of a comparison.

    `images` is the number of images the networks saw, `shown` which of them the figures show.
    `provenance` says where the numbers come from, as JSON values.
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

    def network(self, name: str) -> Network:
        """Return a network by its name; `KeyError` where none took part under it."""
        return {network.name: network for network in self.networks}[name]

    def initial(self, network: Network) -> Network | None:
        """Return the same network before training; None if it took no part."""
        for other in self.networks:
            known = other.model, other.state, other.seed
            if known == (network.model, INITIAL, network.seed):
                return other
        return None

    def seeds(self, network: Network) -> tuple[Network, ...]:
        """Return a compared network and its other seeds, trained ones, itself first."""
        return tuple(n for n in self.networks if (n.model, n.state) == (network.model, TRAINED))

    def metrics(self) -> Iterator[tuple[str, Metric]]:
        """Yield every metric with the name of its analysis."""
        for analysis, result in self.results.items():
            for metric in result.metrics:
                yield analysis, metric

    def to_dataset(self) -> xr.Dataset:
        """Return every metric as a table: one row per metric, with what decides it."""
        rows = list(self.metrics())
        columns: dict[str, list[Any]] = {"analysis": [analysis for analysis, _ in rows]}
        for key in (f.name for f in dataclasses.fields(Metric)):
            columns[key] = [getattr(metric, key) for _, metric in rows]
        known = {network.name: network for network in self.networks}
        for end in ("", "_b"):
            of = [known.get(getattr(metric, f"network{end}")) for _, metric in rows]
            for key, none in zip(OF_A_NETWORK, ("", "", -1), strict=True):
                columns[f"{key}{end}"] = [getattr(n, key) if n else none for n in of]
        columns["n"] = [self.results[analysis].images or self.images for analysis, _ in rows]
        columns["is_count"] = [isinstance(metric.value, int) for _, metric in rows]
        return _dataset({key: ("row", column(values)) for key, values in columns.items()})

    def to_frame(self) -> Any:
        """Return every metric as a `pandas.DataFrame`.

        Its columns are analysis, measure, network, network_b, value, low, high (the 95 % interval,
        NaN without one), n (images) and unit; then the model, state (trained or initial) and seed
        of `network`, and of `network_b` (model_b, …), empty and −1 where there is none.
        """
        table = self.to_dataset().to_dataframe()
        order = ["analysis", "measure", "network", "network_b", "value", "low", "high", "n", "unit"]
        order += [f"{key}{end}" for end in ("", "_b") for key in OF_A_NETWORK]
        return table.reset_index(drop=True)[order]


def column(values: Sequence[Any]) -> NDArray[Any]:
    """Return values as an array that a file can keep: text as objects, of any length."""
    values = list(values)
    text = bool(values) and isinstance(values[0], str)
    return np.array(values, dtype=object if text else None)
