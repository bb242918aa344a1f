"""A result without each group of images, and intervals of anything that is computed from it.

From what HSIC is without each of some groups of images (a delete-a-group jackknife, the batches
being strata), every number that is formed of a CKA map has an interval, and so has the difference
of two such numbers: both are computed without the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.measures.intervals import ROUNDING, Estimate, fisher_interval

GROUPS = 32  # of all images, where batches are few; two a batch where they are many
DRAWS = 1000
INTERVAL = "jackknife over groups of images"  # how an interval was found, in words


@dataclass(frozen=True)
class Replicates:
    """A result and what it is without each group of images.

    `whole` is the result (…), `without` (groups, …) the same without each group, and `weight`
    (groups,) what a squared deviation counts in the variance: with h groups in a batch
    (h − 1)/h. `freedom` are the degrees of freedom of that variance; with none, there are no
    intervals.

    Source: Efron & Tibshirani 1993, ch. 11; Rust & Rao 1996 for strata.
    """

    whole: NDArray[np.float64]
    without: NDArray[np.float64]
    weight: NDArray[np.float64]
    freedom: int

    def map(self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Replicates:
        """Return what a function makes of the result, whole and without each group."""
        without = [function(one) for one in self.without]
        whole = function(self.whole)
        kept = np.stack(without) if without else np.empty((0, *whole.shape))
        return Replicates(whole, kept, self.weight, self.freedom)

    def map_stepwise(
        self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> Replicates:
        """Return the same as `map` of a function that moves by steps, such as a quantile.

        Without one group a result moves by a small part of its standard error: by less than a
        step, or over one, which says little of the error. So the function is taken of results
        that moved by about their standard error, towards a group alone, and what it changes is
        scaled back.
        """
        if self.freedom < 2:
            return self.map(function)
        far = -np.sqrt(self.weight.sum())
        moved = self.whole + far * (self.without - self.whole)
        found = Replicates(self.whole, moved, self.weight, self.freedom).map(function)
        without = found.whole + (found.without - found.whole) / far
        return Replicates(found.whole, without, self.weight, self.freedom)

    @property
    def is_finite(self) -> bool:
        """Say whether all numbers are finite."""
        return bool(np.isfinite(self.whole).all() and np.isfinite(self.without).all())

    @property
    def error(self) -> NDArray[np.float64]:
        """The standard errors (…) of the result."""
        squares = np.zeros_like(self.whole)
        for one, weight in zip(self.without, self.weight, strict=True):
            squares += weight * (one - self.whole) ** 2
        return np.sqrt(squares)

    def __getitem__(self, index: int | slice) -> Replicates:
        """Return one of the results, or some, along the first axis."""
        return Replicates(self.whole[index], self.without[:, index], self.weight, self.freedom)

    def similarity_interval(self) -> NDArray[np.float64]:
        """Return the ends (2, …) of the jackknife's interval of similarities, on Fisher's scale."""
        if self.freedom < 1:
            return np.full((2, *self.whole.shape), np.nan)
        return fisher_interval(self.whole, self.error, self.freedom)

    def draws(self) -> NDArray[np.float64]:
        """Return the result and, after it, what it might have been on other images.

        Returns:
            (1 + draws, …): the result moved at random, with the covariance of the jackknife. What
            is computed of every draw has an interval by `percentile_interval`, but for counts
            (`zoo.measures.counts`). The draws of all results of the same images belong together,
            so that differences of them are paired. The result alone, where there are no groups.

        Source: multiplier bootstrap, van der Vaart & Wellner 1996, ch. 2.9.
        """
        if self.freedom < 1:
            return self.whole[None]
        scale = np.sqrt(self.weight).reshape(-1, *[1] * self.whole.ndim)
        random = np.random.default_rng(0)
        factors = random.standard_t(self.freedom, (DRAWS, len(self.weight)))
        moved = np.tensordot(factors, scale * (self.without - self.whole), 1)
        return self.whole + np.concatenate([np.zeros_like(moved[:1]), moved])


NO_REPLICATES = Replicates(np.array(math.nan), np.empty(0), np.empty(0), 0)  # of no images


def percentile_interval(values: NDArray[np.float64]) -> Estimate:
    """Return a number and its 95 % interval from what it is in every draw.

    Args:
        values: (1 + draws,), the number itself first; or (1 + draws, 2), the least and the most
            that it may be in every draw.

    Returns:
        The number and the ends, NaN where there are no draws or one is not finite. Draws are
        noisier than the number, so that the range of many values is wider in nearly all.
        Where their middle 95 % miss the number, the interval also holds its mirror image in the
        number (the basic interval: Davison & Hinkley 1997, sec. 5.2); it may exceed a range.

    >>> low, high = percentile_interval(np.array([0.9, *np.linspace(0.5, 0.8, 41)]))[1:]
    >>> round(low, 2), round(high, 2)
    (0.51, 1.29)
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return float(values.flat[0]), math.nan, math.nan
    sides = values[1:].T if values.ndim == 2 else _sides(values)
    ends = np.percentile(sides, [2.5, 97.5], axis=1)
    return float(values.flat[0]), float(ends[0].min()), float(ends[1].max())


def percentile_p(values: NDArray[np.float64], bound: float) -> float:
    """Return the two-sided p-value of a number against a bound, as `percentile_interval` has it.

    Args:
        values: (1 + draws,), the number itself first, as there.
        bound: what the number is tested against.

    Returns:
        Twice the share of draws that are not on the number's side of the bound, counting the
        number itself: it is never 0, however alike the draws are. Of draws that miss the number
        and their mirror image, the larger. NaN where `percentile_interval` has no ends.

    >>> round(percentile_p(np.array([0.9, *np.linspace(0.5, 0.95, 41)]), 0.55), 3)
    0.286
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan
    sides = _sides(values)
    beyond = sides > bound if values[0] > bound else sides < bound
    return min(1.0, 2 * (1 + int((~beyond).sum(axis=1).max())) / len(values))


def _sides(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the draws (1, draws) of a number; where they miss it, their mirror image as well."""
    value, draws = values[0], values[1:]
    low, high = np.percentile(draws, [2.5, 97.5])
    missed = not low - ROUNDING <= value <= high + ROUNDING
    return np.stack([draws, 2 * value - draws] if missed else [draws])


class GroupedMean:
    """A mean over images, gathered batch by batch, whole and without each group of images.

    Values that are not finite are left out. Image i belongs to group i mod `groups`.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        self.groups, self.images = groups, 0
        self._sums: NDArray[np.float64] | None = None
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take values (n, …) of the next n images."""
        values = np.asarray(values, dtype=np.float64)
        if self._sums is None:
            self._sums = np.zeros((self.groups, *values.shape[1:]))
            self._counts = np.zeros(self._sums.shape, dtype=np.int64)
        # Of so many images in turn, each has a group of its own.
        for first in range(0, len(values), self.groups):
            part = values[first : first + self.groups]
            group = (self.images + np.arange(len(part))) % self.groups
            defined = np.isfinite(part)
            self._sums[group] += np.where(defined, part, 0)
            self._counts[group] += defined
            self.images += len(part)

    def merge(self, other: GroupedMean) -> None:
        """Add what another has gathered from the images after these."""
        if other._sums is None:
            return
        if self._sums is None:
            self._sums = np.zeros_like(other._sums)
            self._counts = np.zeros_like(other._counts)
        # Its first image is the next one here.
        self._sums += np.roll(other._sums, self.images % self.groups, axis=0)
        self._counts += np.roll(other._counts, self.images % self.groups, axis=0)
        self.images += other.images

    @property
    def count(self) -> NDArray[np.int64]:
        """On how many images each value is defined, (…)."""
        return self._counts.sum(axis=0)

    def result(self) -> Replicates:
        """Return the mean, NaN where no image has a value, and the same without each group."""
        if self._sums is None:
            return NO_REPLICATES
        groups = min(self.groups, self.images)
        sums, counts = self._sums[:groups], self._counts[:groups]
        with np.errstate(invalid="ignore"):
            whole = sums.sum(axis=0) / counts.sum(axis=0)
            without = (sums.sum(axis=0) - sums) / (counts.sum(axis=0) - counts)
        return Replicates(whole, without, np.full(groups, (groups - 1) / groups), groups - 1)


def in_rows(found: Sequence[Replicates], columns: int) -> Replicates:
    """Return results (k,) of the same images as the rows of one (rows, columns).

    It is NaN beyond k, and in all of a row that no image has a value for.
    """
    known = max(found, key=lambda one: one.freedom)
    whole = np.full((len(found), columns), np.nan)
    without = np.full((len(known.weight), len(found), columns), np.nan)
    for row, one in enumerate(found):
        if len(one.weight) == len(known.weight) and one.whole.ndim:
            whole[row, : len(one.whole)] = one.whole
            without[:, row, : len(one.whole)] = one.without
    return Replicates(whole, without, known.weight, known.freedom)
