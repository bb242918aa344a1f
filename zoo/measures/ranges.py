"""The range of noisy values, such as of how far heads look: the farthest minus the nearest.

Noise widens a range: of values that are equal, the largest and the smallest are so by noise alone,
and draws around them are wider still. Here what the range may be is bounded on both sides, in every
draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.measures.counts import above
from zoo.measures.intervals import student_quantile
from zoo.measures.replicates import Replicates

LEFT_OUT = 0.005  # how often, at most, noise alone leaves out a value that may be an end


def range_draws(found: Replicates) -> NDArray[np.float64]:
    """Return the range of values and, after it, the least and the most that it may be.

    The least: noise has added at most the range of the noise of those values that may be the
    largest or the smallest, which no other surely exceeds, or falls below (Bonferroni). The most:
    the range is the difference of two values, so that the highest upper end of any two is one of
    it.

    Args:
        found: the values (…, values), whole and without each group of images.

    Returns:
        (1 + draws, …, 2): in every draw the least and the most that the range may be; first the
        range itself, twice. Of these, or of differences of them (the least less the most),
        `percentile_interval` is the interval. Draws of all ranges of the same images belong
        together.

    Source: Chernozhukov, Lee & Rosen 2013, "Intersection bounds".
    """
    noise = found.draws() - found.whole
    pairs = found.map(lambda values: values[..., :, None] - values[..., None, :])
    surely = above(pairs)[..., 0] <= LEFT_OUT / max(1, noise.shape[-1] - 1)
    highest = np.where(surely.any(axis=-2), -np.inf, noise).max(axis=-1)
    lowest = np.where(surely.any(axis=-1), np.inf, noise).min(axis=-1)
    whole = pairs.whole.max(axis=(-2, -1))
    upper = pairs.whole + student_quantile(found.freedom, 0.975) * pairs.error
    widest = upper.reshape(*whole.shape, -1).argmax(axis=-1)
    drawn = pairs.whole - noise[..., :, None] + noise[..., None, :]
    most = np.take_along_axis(
        drawn.reshape(*drawn.shape[:-2], -1), widest[None, ..., None], axis=-1
    )[..., 0]
    most[0] = whole
    return np.stack([whole - (highest - lowest), most], axis=-1)
