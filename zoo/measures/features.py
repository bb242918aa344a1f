"""What all measures of similarity share: checked and centred features, distances, names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.measures.intervals import jackknife_interval

Prepare = Callable[[NDArray[np.float64]], Any]
Compare = Callable[[Any, Any], float]
LeaveOut = Callable[[Any, Any], Any]
Permute = Callable[[Any, NDArray[np.intp]], Any]
# Of p and q layers and of m orders of the q layers' images: (m, p, q) similarities.
Permuted = Callable[[Sequence[Any], Sequence[Any], NDArray[np.intp]], NDArray[np.float64]]
# Below this share of its norm, a layer's variation is float32 rounding: it is constant.
CONSTANT = 1e-6
# Two images nearer than this, relative to their norms, differ by rounding only: they coincide.
COINCIDENT = 1e-12


class DegenerateError(ValueError):
    """Features that a measure is not defined on; the message says what is wrong with them."""


@dataclass(frozen=True)
class Measure:
    """One way to say how alike two representations of the same images are; higher is closer.

    `prepare` does what depends on one side alone, once a layer, and `compare` what depends on
    both. `leave_out` gives what `interval_from` makes an interval of: the values without each
    image, where what hardly changes with one image (a bandwidth) may be held, or in parts of them.
    `permuted` gives all pairs of layers under hundreds of permutations of one side's images, from
    what `reduce` keeps of a prepared side. Where that is less than the measure itself, enough to
    rank what was observed, `permute` takes each image of a prepared side for another.
    `least` is the least value there is; `low` and `high` are the range that a figure shows.
    `label` names the value with its convention.
    """

    name: str
    title: str
    label: str
    prepare: Prepare
    compare: Compare
    leave_out: LeaveOut
    reduce: Callable[[Any], Any]
    permuted: Permuted
    source: str
    interval_from: Callable[[float, Any], NDArray[np.float64]] = jackknife_interval
    permute: Permute | None = None
    least: float = 0.0
    low: float = 0.0
    high: float = 1.0

    def __call__(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the similarity of features (n, p) and (n, q) of the same n images."""
        return self.compare(*prepare_both(self.prepare, x, y))

    def interval(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return the interval (2,) over images of the similarity of (n, p) and (n, q) features."""
        a, b = prepare_both(self.prepare, x, y)
        return self.interval_of(self.compare(a, b), a, b)

    def interval_of(self, value: float, a: Any, b: Any) -> NDArray:
        """Return the interval (2,) of a value that two prepared sides have.

        Raises:
            DegenerateError: there are too few images to leave some out.
        """
        ends = self.interval_from(value, self.leave_out(a, b))
        return np.clip(ends, self.least, 1.0)


def prepare_both(prepare: Prepare, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
    """Prepare two representations of the same images; what is wrong is said with its side.

    Raises:
        ValueError: the number of images differs.
        DegenerateError: a side is not finite, constant, or degenerate for the measure.
    """
    sides = {"x": np.asarray(x, dtype=np.float64), "y": np.asarray(y, dtype=np.float64)}
    if len(sides["x"]) != len(sides["y"]):
        raise ValueError(f"expected the same images, got {len(sides['x'])} and {len(sides['y'])}")
    prepared = []
    for name, values in sides.items():
        try:
            prepared.append(prepare(values))
        except DegenerateError as error:
            raise DegenerateError(f"{name} {error}") from None
    return prepared[0], prepared[1]


def centred(x: ArrayLike, *, images: int = 2) -> NDArray[np.float64]:
    """Return features (n, d) with the mean of each column removed, in float64.

    Args:
        x: (n, …) features of n images; more dimensions are flattened.
        images: how many are needed.

    Raises:
        DegenerateError: too few images, values that are not finite, or images that are all the
            same up to float32 rounding.
    """
    values = np.asarray(x, dtype=np.float64)
    if len(values) < images:
        raise DegenerateError(f"needs at least {images} images, got {len(values)}")
    values = values.reshape(len(values), -1)
    if not np.isfinite(values).all():
        raise DegenerateError("is not finite")
    moved = values - values.mean(axis=0)
    if np.linalg.norm(moved) <= CONSTANT * np.linalg.norm(values):
        raise DegenerateError("is constant")
    return moved


def squared_distances(moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared Euclidean distances (n, n) between centred features (n, d).

    What the difference of two squared norms cannot resolve is set to 0: such images coincide.
    """
    gram = moved @ moved.T
    norms = np.diagonal(gram)
    sums = norms[:, None] + norms[None, :]
    squares = sums - 2 * gram
    squares[squares <= COINCIDENT * sums] = 0
    np.fill_diagonal(squares, 0)
    return squares


@lru_cache(maxsize=2)
def pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and the second image of each of the n(n−1)/2 pairs, in order."""
    return np.triu_indices(n, 1)


def upper(matrix: NDArray) -> NDArray:
    """Return the entries above the diagonal of (n, n), row by row: n(n−1)/2 of them."""
    return matrix[pairs(len(matrix))]


def by_image(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of n images the sum over its n−1 pairs of values as `upper` lists them."""
    n = round((1 + math.sqrt(1 + 8 * len(values))) / 2)
    sums = np.zeros(n)
    for images in pairs(n):
        sums += np.bincount(images, weights=values, minlength=n)
    return sums
