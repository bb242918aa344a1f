"""95 % intervals: how far would a value move on other images of the same kind?"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Estimate = tuple[float, float, float]  # a value and the ends of its 95 % interval
Range = tuple[float, float]  # between what a quantity lies
UNBOUNDED = -math.inf, math.inf
SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)  # a share, and a difference of two
Z95 = 1.959963984540054
ROUNDING = 1e-9  # below any step of a share or a count
SPLITS, HALVES, FIFTHS = 64, 2, 5  # how often images are split at random, and into how many parts


def mean_defined(values: NDArray[np.float64]) -> float:
    """Return the mean of what is finite; NaN where nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def is_one_number(values: ArrayLike) -> bool:
    """Say whether values differ by rounding alone: their spread then says nothing of chance.

    >>> is_one_number([0.7 - 0.4, 0.6 - 0.3]), is_one_number([0.3, 0.31])
    (True, False)
    """
    return bool(np.ptp(values) < ROUNDING)


def jackknife_interval(value: ArrayLike, left_out: ArrayLike) -> NDArray[np.float64]:
    """Return the jackknife's interval of similarities, on Fisher's scale.

    The values without each part of the images have a standard error, which the derivative of
    artanh carries over to that scale; Student's t with parts − 1 degrees of freedom gives the
    ends. (Not artanh of each value: without the one image that two layers differ in, it is
    infinite.) A percentile bootstrap over a few batches is too narrow: with 3 of them it covered
    the truth in 74 % of trials.

    Args:
        value: (…) similarities within −1 and 1.
        left_out: (parts, …) the same without each part of the images, parts >= 2. A part is a
            batch, a group of images, or one image.

    Returns:
        (2, …): lower and upper ends, within −1 and 1; NaN where any of the values is.

    Source: Efron & Tibshirani 1993, ch. 11; Fisher 1915 for the scale.

    >>> jackknife_interval(0.5, [0.45, 0.5, 0.55]).round(2)
    array([0.21, 0.71])
    """
    without = np.asarray(left_out)
    parts = len(without)
    error = np.sqrt((parts - 1) / parts * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    return fisher_interval(value, error, parts - 1)


def halves_of(n: int) -> NDArray[np.bool_]:
    """Return which of n images are in each of 14 halves, (14, n): two of each of seven splits.

    The images are dealt at random, always alike, into eight groups, and a Hadamard matrix says
    which four are a half. Halves of two splits share half of their images, so that the splits'
    differences are uncorrelated.

    Source: McCarthy 1969, "Pseudo-replication: half samples".
    """
    groups = np.random.default_rng(0).permutation(n) % 8
    two = np.array([[1, 1], [1, -1]])
    first = np.kron(np.kron(two, two), two)[1:, groups] > 0
    return np.stack([first, ~first], axis=1).reshape(-1, n)


def half_sample_interval(value: ArrayLike, halves: ArrayLike) -> NDArray[np.float64]:
    """Return the interval of similarities from what they are in halves of the images.

    The two halves of a split have no image in common, so their squared difference estimates the
    variance over half as many images without bias; over all images it is half of that. This is
    taken on Fisher's scale, since some similarities are higher among fewer images. Student's t has
    as many degrees of freedom as there are splits. (The jackknife counts what images do together
    once for each of them; Efron & Stein 1981. For singular values that is up to twice too much.)

    Args:
        value: (…) similarities within −1 and 1.
        halves: (2 splits, …) the same in half of the images, as `halves_of` gives them.

    Returns:
        (2, …): lower and upper ends, within −1 and 1.

    >>> half_sample_interval(0.5, [0.5, 0.6, 0.6, 0.5, 0.5, 0.5]).round(2)
    array([0.35, 0.62])
    """
    halves = np.asarray(halves)
    differences = halves[::2] - halves[1::2]
    error = np.sqrt((differences**2).mean(axis=0)) / 2
    around = halves.mean(axis=0)
    return fisher_interval(value, error, len(differences), around=around)


class AfterSelection(NamedTuple):
    """What the interval of a similarity rests on that jumps where a selection comes out otherwise.

    `halves` (14,) are the similarities in half of the images with the selection of all of them.
    `means` (selections, 3) are the means over what other images of the same kind may select, one
    selection at a time: with the estimated chances, and with those at either end of the 95 %
    interval of what the selection goes by.
    """

    halves: NDArray[np.float64]
    means: NDArray[np.float64]


def selection_interval(value: float, found: AfterSelection) -> NDArray[np.float64]:
    """Return the interval (2,) of a similarity that rests on selections, on Fisher's scale.

    It lies around the mean over the selections, which moves smoothly from images to images where
    the value jumps. The distances to its ends are the roots of sums of squares: of those of
    `half_sample_interval`, and for each selection of those to its extreme means. Parts are taken
    for independent. The value always lies within.

    Source: Efron 2014, "Estimation and accuracy after model selection", for the mean; Zou & Donner
    2008, "Construction of confidence limits about effect measures", for the sum.

    >>> means = np.array([[0.5, 0.5, 0.5], [0.5, 0.4, 0.5]])
    >>> selection_interval(0.5, AfterSelection(np.full(14, 0.5), means)).round(2)
    array([0.4, 0.5])
    """
    ends = half_sample_interval(value, found.halves)
    at, (low, high), means = (
        np.arctanh(np.clip(one, -1 + 1e-15, 1 - 1e-15)) for one in (value, ends, found.means)
    )
    estimated = means[:, 0]
    centre = at + (estimated - at).sum()
    below = np.linalg.norm([at - low, *(estimated - means.min(axis=1))])
    above = np.linalg.norm([high - at, *(means.max(axis=1) - estimated)])
    low, high = np.tanh([centre - below, centre + above])
    return np.array([min(low, value), max(high, value)])


@lru_cache(maxsize=4)
def random_parts(n: int, parts: int) -> NDArray[np.uint8]:
    """Return the part that each of n images is in, (splits, n): at random, but always alike."""
    random = np.random.default_rng(parts)
    return np.stack([random.permutation(n) % parts for _ in range(SPLITS)]).astype(np.uint8)


def parts_interval(value: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    """Return the interval of a similarity from what it is in halves and in fifths of the images.

    Parts of one split have no image in common, so that they scatter as the value does over as many
    images. The variance over m images is α/m + β/m²: what they do one by one, and two by two
    (higher orders are left out). Halves of n have 2α/n + 4β/n², fifths 5α/n + 25β/n², so all images
    have two thirds of the first less a fifteenth of the second, which lies between a quarter and a
    half of the first. Student's t has Satterthwaite's degrees of freedom, the splits being taken
    for independent.

    Args:
        value: the similarity of all images, within −1 and 1.
        shares: (splits, 2 + 5) the same in the two halves and in the five fifths of every split.

    Returns:
        (2,): lower and upper ends, within −1 and 1.

    Source: Hoeffding 1948 for the orders; Satterthwaite 1946.
    """
    shares = np.asarray(shares)
    halves, fifths = (
        part.var(axis=1, ddof=1).mean() for part in np.split(shares, [HALVES], axis=1)
    )
    if halves == 0:
        return np.array([value, value])
    variance = np.clip(2 / 3 * halves - fifths / 15, halves / 4, halves / 2)
    spread = (4 / 9 * halves**2 / (HALVES - 1) + fifths**2 / 225 / (FIFTHS - 1)) / len(shares)
    return fisher_interval(value, np.sqrt(variance), variance**2 / spread)


def fisher_interval(
    value: ArrayLike,
    error: ArrayLike,
    freedom: float,
    *,
    around: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the ends (2, …) of the interval of similarities (…) with standard errors (…).

    On Fisher's scale, by Student's t with `freedom` degrees of freedom; within −1 and 1. The
    errors are those of similarities `around`, by default the values themselves.
    """
    # A layer with itself has a similarity of 1, whose artanh is infinite; this one's tanh is 1.
    centre, found = (
        np.clip(one, -1 + 1e-15, 1 - 1e-15) for one in (value, value if around is None else around)
    )
    half = student_quantile(freedom, 0.975) * np.asarray(error) / (1 - found**2)
    return np.tanh(np.stack([np.arctanh(centre) - half, np.arctanh(centre) + half]))


def in_range(estimate: ArrayLike, within: Range) -> NDArray[np.float64]:
    """Return a value and its interval (3, …) without what lies beyond the value's range.

    The truth lies in range, so that what is left holds it exactly as often, and leaves out the same
    thresholds as before: p-values stay true. (On a logit's scale neither would be so.) A value that
    itself is out of range stays within its interval.

    >>> in_range([0.67, -0.28, 1.62], SHARE).tolist()
    [0.67, 0.0, 1.0]
    """
    value, low, high = np.asarray(estimate, dtype=np.float64)
    lowest, highest = np.minimum(within[0], value), np.maximum(within[1], value)
    return np.stack([value, np.maximum(low, lowest), np.minimum(high, highest)])


def mean_interval(values: NDArray, within: Range = UNBOUNDED) -> NDArray[np.float64]:
    """Return the mean over images of values and its 95 % interval, (3, …).

    Args:
        values: (n, …), one an image, n >= 2; fewer have no interval (NaN). Two curves of the same
            images are told apart by the mean of their differences.
        within: between what the mean lies.

    Returns:
        Mean, lower end, upper end, by Student's t with n − 1 degrees of freedom, cut by `in_range`.

    >>> mean_interval(np.array([1.0, 2.0, 3.0])).round(2).tolist()
    [2.0, -0.48, 4.48]
    """
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), values.mean(axis=0)
    if n < 2:
        return np.stack([mean, mean * math.nan, mean * math.nan])
    half = student_quantile(n - 1, 0.975) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return in_range([mean, mean - half, mean + half], within)


def seed_interval(values: NDArray, within: Range = UNBOUNDED) -> NDArray[np.float64]:
    """Return `mean_interval` of values over seeds, (3, …); without ends where all seeds tie.

    >>> seed_interval(np.array([0.7, 0.7, 0.7]))[1:].tolist()
    [nan, nan]
    """
    mean, *ends = mean_interval(values, within)
    tied = np.ptp(values, axis=0) < ROUNDING
    return np.stack([mean, *(np.where(tied, math.nan, end) for end in ends)])


def ratio_of_means(above: NDArray[np.float64], below: NDArray[np.float64]) -> Estimate:
    """Return the mean of `above` over the mean of `below`, pair by pair, with its 95 % interval.

    Args:
        above: (n,) values.
        below: (n,) the values that they are a share of, in the same order.

    Returns:
        Ratio, lower end, upper end. Where the mean of `below` may be 0, any ratio is
        possible and the ends are infinite; a single pair has no interval (NaN), nor have pairs
        that all give one ratio, as that of a model to itself.

    Source: Fieller 1954, "Some problems in interval estimation".

    >>> round(float(ratio_of_means(np.array([1.0, 1.2, 0.8]), np.array([2.0, 2.2, 2.1]))[0]), 3)
    0.476
    """
    if len(above) != len(below) or not len(above):
        raise ValueError(f"expected as many values as divisors, got {len(above)} and {len(below)}")
    n, top, bottom = len(above), float(np.mean(above)), float(np.mean(below))
    ratio = top / bottom if bottom else math.nan
    if n < 2:
        return ratio, math.nan, math.nan
    t2 = student_quantile(n - 1, 0.975) ** 2
    (top_var, both), (_, bottom_var) = np.cov(above, below) / n
    # The ratios r for which the mean of `above - r below` is not told from 0.
    a, b, c = bottom**2 - t2 * bottom_var, top * bottom - t2 * both, top**2 - t2 * top_var
    if a <= 0:
        return ratio, -math.inf, math.inf
    if is_one_number(above - ratio * below):
        return ratio, math.nan, math.nan
    half = math.sqrt(max(0.0, b * b - a * c))
    return ratio, float((b - half) / a), float((b + half) / a)


def ratio_values(above: NDArray, below: NDArray) -> NDArray[np.float64]:
    """Return values (n,) whose mean is the ratio of two means, and whose spread is its own.

    Args:
        above: (n,) one an image, such as whether it is right when it is changed.
        below: (n,) the same of what it is a share of, such as whether it is right unchanged.

    Returns:
        R + (above − R · below) / mean(below), where R is the ratio of the means; NaN where
        `below` has a mean of 0. `mean_interval` of them is the interval of R, and of the
        difference of two such arrays that of two ratios on the same images.

    Source: the linearised ratio estimator, Cochran 1977, "Sampling techniques", Sec. 6.3.

    >>> ratio_values(np.array([1, 0, 1]), np.array([1, 1, 1])).tolist()
    [1.0, 0.0, 1.0]
    """
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    mean = below.mean()
    if mean == 0:
        return np.full(len(above), math.nan)
    ratio = above.mean() / mean
    return np.asarray(ratio + (above - ratio * below) / mean)


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, `right` out of `n` (Wilson 1927).

    >>> [round(end, 3) for end in wilson_interval(8, 10)]
    [0.49, 0.943]
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"expected 0 <= right <= n and n >= 1, got {right} of {n}")
    share, z2 = right / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def share_interval(right: NDArray[np.bool_]) -> Estimate:
    """Return the share (n,) that is right, and its 95 % interval (`wilson_interval`)."""
    hits, n = int(right.sum()), len(right)
    return hits / n, *wilson_interval(hits, n)


def paired_difference(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Estimate:
    """Return the accuracy of `a` minus that of `b` on the same images, with its 95 % interval.

    Args:
        a: (n,) whether the first model is right on each image, n >= 2.
        b: the same for the second.

    Returns:
        Difference, lower end, upper end. Where the models never differ, the interval is that of
        so many images, not of width 0: one image is added to each way of differing.

    Source: Bonett & Price 2012, for the interval.

    >>> both = np.ones(64, dtype=bool)
    >>> [round(end, 3) for end in paired_difference(both, both)]
    [0.0, -0.042, 0.042]
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"expected the same 2 or more images, got {len(a)} and {len(b)}")
    n = len(a)
    gained, lost = int((a & ~b).sum()), int((~a & b).sum())
    first, second = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z95 * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    low, high = max(-1.0, first - second - half), min(1.0, first - second + half)
    return (gained - lost) / n, low, high


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """Return a minus b with its 95 % interval, from the intervals of both.

    They are taken for independent. Measured on the same images they mostly err together, which
    makes the interval wider than it need be.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures".

    >>> low, high = independent_difference((0.5, 0.4, 0.6), (0.2, 0.1, 0.3))[1:]
    >>> round(low, 3), round(high, 3)
    (0.159, 0.441)
    """
    value = a[0] - b[0]
    below = math.hypot(a[0] - a[1], b[2] - b[0])
    above = math.hypot(a[2] - a[0], b[0] - b[1])
    return value, value - below, value + above


def student_quantile(freedom: float, share: float) -> float:
    """Return the quantile of Student's t."""
    # Neither scipy.stats, which takes half a second, nor any of scipy where nothing is computed.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
