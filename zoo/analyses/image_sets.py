"""A second set of images: the maps of similarity on it, and how far they agree with the first's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.analyses import load_analysis
from zoo.measures.intervals import DIFFERENCE, Z95, Estimate, in_range, mean_defined
from zoo.measures.replicates import percentile_interval
from zoo.measures.table import MEASURES
from zoo.progress import OnProgress, no_progress
from zoo.study.networks import Study
from zoo.study.one_pass import run_pass
from zoo.study.prepare import check_images
from zoo.study.replicates import draws_of
from zoo.study.results import SIGNED, Metric, Result

if TYPE_CHECKING:
    import xarray as xr

MAPS = {"cka": ("cka", "cka_deconfounded"), "similarity": tuple(MEASURES)}  # by analysis
Images = Mapping[str, NDArray[np.uint8]]
OTHER = "_other"  # ends the name of a map on the other sets


def with_image_sets(
    study: Study,
    results: Mapping[str, Result],
    others: Images,
    on_progress: OnProgress = no_progress,
) -> dict[str, Result]:
    """Return results whose maps of similarity stand beside those of other images.

    Args:
        study: what was measured; its compared networks see the other images too.
        results: of its analyses, by name.
        others: sets of images (n, height, width, 3) uint8 by name, n >= 4.
        on_progress: is called for every batch of images.

    Returns:
        The results; those of `MAPS` with each map on the other sets (`<map>_other`, along
        `image_set`), metrics of the agreement, and a note a pair and set.

    Raises:
        UserError: a set is too small or no images.
    """
    found = dict(results)
    for name, images in others.items():
        check_images(name, images)
    measured = [analysis for analysis in MAPS if analysis in results]
    seen: dict[str, list[xr.Dataset]] = {analysis: [] for analysis in measured}
    for images in others.values():
        other = dataclasses.replace(
            study, networks=study.compared, images=images, labels=None, shown=()
        )
        running = {name: load_analysis(name).start(other) for name in measured}
        run_pass(other, list(running.values()), on_progress)
        for name, accumulator in running.items():
            seen[name].append(accumulator.result().data)
    for name in measured:
        found[name] = _beside(results[name], MAPS[name], dict(zip(others, seen[name], strict=True)))
    return found


def _beside(result: Result, measures: Sequence[str], others: Mapping[str, xr.Dataset]) -> Result:
    """Return a result with the maps of other sets, and how far they agree."""
    data, dims = result.data, ("image_set", "layer", "layer_b")
    rows = list(zip(data["network"].values, data["name"].values, strict=True))
    variables: dict[str, Any] = {}
    for measure in measures:
        maps = np.full((len(others), len(rows), len(rows)), np.nan)
        for k, other in enumerate(others.values()):
            own = zip(other["network"].values, other["name"].values, strict=True)
            at = [rows.index(row) for row in own]
            maps[k][np.ix_(at, at)] = other[measure].values
        variables[measure + OTHER] = (dims, maps, data[measure].attrs)
    names = np.array(list(others), dtype=object)
    compared = tuple(dict.fromkeys(next(iter(others.values()))["network"].values))
    metrics, notes = list(result.metrics), list(result.notes)
    for a, b in combinations(compared, 2):
        for measure in measures:
            each = {name: agreement(data, other, measure, a, b) for name, other in others.items()}
            least = min(each, key=lambda name: each[name].correlation[0])
            metrics += [m for m in each[least].metrics(measure, a, b) if math.isfinite(m.value)]
            if measure in ("cka", "cka_deconfounded"):
                notes += [of.describe(measure, name, a, b) for name, of in each.items()]
    data = data.assign(variables).assign_coords(image_set=names)
    return dataclasses.replace(result, data=data, metrics=tuple(metrics), notes=tuple(notes))


@dataclass(frozen=True)
class Agreement:
    """How far two maps of the same layers on different images agree.

    `correlation` is Pearson's over pairs of layers and `moved` the mean on the other set minus on
    the first, each with its 95 % interval over the images of both (NaN without one); `same_match`
    is the share of layers whose best match is the same layer.
    """

    correlation: Estimate
    moved: Estimate
    same_match: float

    def metrics(self, measure: str, a: str, b: str) -> Iterator[Metric]:
        """Yield it as metrics of a pair."""
        for what, (value, low, high) in (("agreement", self.correlation), ("change", self.moved)):
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
            f"the maps' correlation is {correlation}; "
            f"{100 * self.same_match:.0f} % of layers keep their best match"
        )


def agreement(first: xr.Dataset, second: xr.Dataset, measure: str, a: str, b: str) -> Agreement:
    """Compare a pair's map on two sets of images."""
    one, other = (draws_of(data, measure, a, b) for data in (first, second))
    # The draws of both begin with the same random numbers, and their images are not the same.
    other = np.concatenate([other[:1], other[:0:-1]])
    known = np.isfinite(one[0]) & np.isfinite(other[0])
    draws = min(len(one), len(other))  # a set of few images has none
    pairs = [(x[known], y[known]) for x, y in zip(one[:draws], other[:draws], strict=True)]
    moved = percentile_interval(np.array([mean_defined(y) - mean_defined(x) for x, y in pairs]))
    return Agreement(
        correlation=_correlation([_pearson(x, y) for x, y in pairs]),
        moved=moved,
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
        f"{measure}_set_same_match": f"{title}: share of layers with the same best match {least}",
    }
