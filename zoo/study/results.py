"""What an analysis found: numbers with named dimensions, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Array:
    """Numbers with named dimensions and a unit (empty: a pure number)."""

    values: NDArray[Any]
    dims: tuple[str, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != len(self.dims):
            raise ValueError(f"expected {self.values.ndim} dims, got {self.dims}")


@dataclass(frozen=True)
class Scale:
    """How maps of one kind are named and coloured, in figures and in the page alike.

    `low` and `high` are the values of the darkest and the brightest colour; None is each map's
    own lowest or highest. Colours follow the logarithm where `log`. `empty` is what is said of a
    map that is 0 everywhere.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    empty: str = ""

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

    `arrays` keep everything that its figures show; `labels` name the positions along a
    dimension; `metrics` are scalars with stable names, and counts among them are int; `notes`
    say what did not apply or was degenerate, naming the model and layer; `models` are the
    compared models' names, in order. `images` is how many images it measured on, where those are
    not all of the study; `scales` say how arrays are drawn, by the first part of their names, the
    first to be shown first.
    """

    models: tuple[str, ...]
    arrays: Mapping[str, Array]
    metrics: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    images: int | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)


def pair_name(a: str, b: str) -> str:
    """Return the name of a pair of models in the names of metrics and arrays."""
    return f"{a}__{b}"
