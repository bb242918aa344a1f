"""Intervals of similarities: how far would they move on other images of the same kind?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def jackknife_interval(
    value: ArrayLike, left_out: ArrayLike, *, level: float = 0.95
) -> NDArray[np.float64]:
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
        level: coverage of the interval.

    Returns:
        (2, …): lower and upper ends, within −1 and 1; NaN where any of the values is.

    Source: Efron & Tibshirani 1993, ch. 11; Fisher 1915 for the scale.

    >>> jackknife_interval(0.5, [0.45, 0.5, 0.55]).round(2)
    array([0.21, 0.71])
    """
    without = np.asarray(left_out)
    parts = len(without)
    error = np.sqrt((parts - 1) / parts * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    # A layer with itself has a similarity of 1, whose artanh is infinite; this one's tanh is 1.
    centre = np.clip(value, -1 + 1e-15, 1 - 1e-15)
    half = stats.t.ppf((1 + level) / 2, parts - 1) * error / (1 - centre**2)
    return np.tanh(np.stack([np.arctanh(centre) - half, np.arctanh(centre) + half]))
