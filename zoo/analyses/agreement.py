"""How far the maps of two sets of images agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.measures.intervals import DIFFERENCE, Z95, Estimate, in_range, mean_defined
from zoo.measures.replicates import percentile_interval
from zoo.study.replicates import draws_of
from zoo.study.results import SIGNED, Metric

if TYPE_CHECKING:
    import xarray as xr

OTHER = "_other"  # ends the name of a map on the other sets


@dataclass(frozen=True)
class Agreement:
    """How far two maps of the same layers on different images agree.

    `correlation` is Pearson's over pairs of layers and `moved` the mean on the other set minus on
    the first, each with its 95 % interval over the images of both (NaN without one); `largest` is
    the largest absolute difference of a cell, `same_match` the share of layers whose best match
    is the same layer.
    """

    correlation: Estimate
    moved: Estimate
    largest: float
    same_match: float

    def metrics(self, measure: str, a: str, b: str) -> Iterator[Metric]:
        """Yield it as metrics of a pair."""
        of = {
            "agreement": self.correlation,
            "change": self.moved,
            "largest_change": (self.largest, math.nan, math.nan),
        }
        for what, (value, low, high) in of.items():
            yield Metric(f"{measure}_set_{what}", value, a, b, low, high, SIGNED)
        yield Metric(f"{measure}_set_same_match", self.same_match, a, b)

    def describe(self, measure: str, images: str, a: str, b: str) -> str:
        """Say in words what stays and what moves on the other images."""
        what = "CKA" if measure == "cka" else "deconfounded CKA"
        _, low, high = self.moved
        moves = "moves" if low > 0 or high < 0 else "does not detectably move"
        change, *ends = (f"{number:+.2f}".replace("-", "−") for number in self.moved)
        correlation = f"{self.correlation[0]:.2f}".replace("-", "−")
        return (
            f"{a} and {b} on {images}: the mean {what} {moves} ({change}, {' to '.join(ends)}); "
            f"the maps' correlation is {correlation}, the largest difference {self.largest:.2f}; "
            f"{100 * self.same_match:.0f} % of layers keep their best match"
        )


def agreement(first: xr.Dataset, second: xr.Dataset, measure: str, a: str, b: str) -> Agreement:
    """Compare a pair's map on two sets of images."""
    one, other = (draws_of(data, measure, a, b) for data in (first, second))
    # The draws of both begin with the same random numbers, and their images are not the same.
    other = np.concatenate([other[:1], other[:0:-1]])
    known = np.isfinite(one[0]) & np.isfinite(other[0])
    difference = other[0] - one[0]
    draws = min(len(one), len(other))  # a set of few images has none
    pairs = [(x[known], y[known]) for x, y in zip(one[:draws], other[:draws], strict=True)]
    moved = percentile_interval(np.array([mean_defined(y) - mean_defined(x) for x, y in pairs]))
    return Agreement(
        correlation=_correlation([_pearson(x, y) for x, y in pairs]),
        moved=moved,
        largest=float(np.abs(difference[known]).max(initial=0)) if known.any() else np.nan,
        same_match=_same_match(one[0], other[0]),
    )


def _correlation(drawn: Sequence[float]) -> Estimate:
    """Return a correlation with its interval, from what it is in every draw, on Fisher's scale.

    A correlation of two maps that are drawn anew is lower than that of the maps themselves, since
    both scatter: their spread gives the interval, and not their percentiles.
    """
    value = drawn[0]
    spread = np.arctanh(np.clip(drawn[1:], -1 + 1e-12, 1 - 1e-12)).std() if drawn[1:] else np.nan
    centre = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    ends = np.tanh([centre - Z95 * spread, centre + Z95 * spread])
    _, low, high = in_range([value, *ends], DIFFERENCE).tolist()
    return value, low, high


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _same_match(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the share of layers (rows and columns) whose best match is the same on both maps."""
    same = []
    for x, y in ((one, other), (one.T, other.T)):
        known = (np.isfinite(x) & np.isfinite(y)).any(axis=1)
        best = [np.where(np.isfinite(of), of, -np.inf)[known].argmax(axis=1) for of in (x, y)]
        same += (best[0] == best[1]).tolist()
    return float(np.mean(same)) if same else float("nan")


def metrics_of(measure: str, title: str) -> dict[str, str]:
    """Return what the metrics of a measure's agreement are, for `About.metrics`."""
    least = "on the set of images that agrees least"
    return {
        f"{measure}_set_agreement": f"{title}: correlation with the map {least}",
        f"{measure}_set_change": f"{title}: mean {least} minus on the first",
        f"{measure}_set_largest_change": f"{title}: largest difference of a cell {least}",
        f"{measure}_set_same_match": f"{title}: share of layers with the same best match {least}",
    }


def signed_metrics(measures: Iterable[str]) -> list[str]:
    """Return the names of those of `metrics_of` that lie between −1 and 1, and not 0 and 1."""
    kinds = ("agreement", "change", "largest_change")
    return [f"{measure}_set_{kind}" for measure in measures for kind in kinds]
