"""The features of patches as colours: three principal components of one network's patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.measures.features import CONSTANT

COMPONENTS = 3
TAILS = (1, 99)  # percentiles that get the darkest and the brightest colour


@dataclass(frozen=True)
class PatchComponents:
    """Scores (n, places, 3) of each image's patches, and the share of variance of each component.

    `explained` is of all patches' variance, (3,).
    """

    scores: NDArray[np.float64]
    explained: NDArray[np.float64]


def patch_components(places: NDArray) -> PatchComponents:
    """Return the first three principal components of all patches of all images together.

    Args:
        places: (n, places, channels) a layer's features; at least three channels and patches.

    Returns:
        Scores in one basis, so that the same colour is the same feature in every image. The sign
        of a component is arbitrary: its largest loading is made positive.

    Raises:
        ValueError: features that are not finite, constant, or of fewer than three directions.
    """
    from sklearn.decomposition import PCA

    n, count, channels = places.shape
    flat = np.asarray(places, dtype=np.float64).reshape(n * count, channels)
    if not np.isfinite(flat).all():
        raise ValueError("features are not finite")
    if min(flat.shape) < COMPONENTS:
        raise ValueError(f"expected 3 or more patches and channels, got {flat.shape}")
    if np.linalg.norm(flat - flat.mean(axis=0)) <= CONSTANT * np.linalg.norm(flat):
        raise ValueError("features are constant")
    # Exact, also for wide features: the randomised solver would depend on a seed.
    pca = PCA(COMPONENTS, svd_solver="covariance_eigh" if channels <= len(flat) else "full")
    scores = pca.fit_transform(flat)
    if np.linalg.norm(scores[:, -1]) <= CONSTANT * np.linalg.norm(flat):
        raise ValueError("features vary in fewer than 3 directions")
    return PatchComponents(scores.reshape(n, count, COMPONENTS), pca.explained_variance_ratio_)


def component_colours(scores: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return scores (n, places, 3) as red, green and blue, each on its own range over all images.

    The range is that of the middle 98 % of patches, so that a few odd ones do not darken the rest.
    """
    low, high = np.percentile(scores, TAILS, axis=(0, 1))
    span = np.where(high > low, high - low, 1)  # all but a few patches may be alike
    return (255 * np.clip((scores - low) / span, 0, 1)).round().astype(np.uint8)
