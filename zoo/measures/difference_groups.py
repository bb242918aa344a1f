"""Groups of images that lie close together in one representation and far apart in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.measures.features import centred, squared_distances
from zoo.measures.threads import in_threads

# The published code's constants: how fast affinity falls with a difference, and how soon a
# difference of ranks, in shares of the images, counts in full.
FALL, SOON = 5.0, 80.0
STABLE = 0.75  # Hennig 2007: a mean Jaccard index from which a cluster is called stable


@dataclass(frozen=True)
class Group:
    """Images that are close in A and far in B.

    `near` and `far` are the mean rank of its images among each other's neighbours in A and in B,
    over the number of other images (0.5 for images drawn at random). `stability` is the mean
    Jaccard index of the group with the most similar one found again in bootstrap samples.
    """

    images: NDArray[np.int64]
    near: float
    far: float
    stability: float


def neighbour_ranks(x: NDArray) -> NDArray[np.int64]:
    """Return the rank (n, n) of each image among each image's neighbours: 0 for itself, 1 nearest.

    Args:
        x: (n, d) features, by Euclidean distance; of equally near images the first one counts.

    Raises:
        DegenerateError: features that are constant or not finite.
    """
    squares = squared_distances(centred(x))
    np.fill_diagonal(squares, -1)
    return _ranks(squares)


def rank_difference(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much nearer each pair of images (n, n) is in A than in B, by ranks; −1 to 1.

    tanh(γ (b − a) / (min(a, b) + 1)) with γ = 80/n, so that a difference counts the more the
    nearer the images are in one of the two.

    Source: Kondapaneni et al. 2025 (RDX), the locally biased difference of neighbourhood
    distances, with its sign turned so that higher is nearer in A.
    """
    return np.tanh(SOON / len(a) * (b - a) / (np.minimum(a, b) + 1))


def cluster(a: NDArray[np.int64], b: NDArray[np.int64], *, groups: int, seed: int) -> NDArray:
    """Return each image's group (n,), by spectral clustering of what is near in A and far in B.

    Args:
        a: (n, n) ranks in A.
        b: (n, n) ranks in B.
        groups: how many.
        seed: of the clustering.
    """
    from sklearn.cluster import SpectralClustering

    affinity = np.exp(FALL * rank_difference(a, b))
    affinity = (affinity + affinity.T) / 2
    found = SpectralClustering(groups, affinity="precomputed", random_state=seed, n_init=5)
    return np.asarray(found.fit_predict(affinity), dtype=np.int64)


def difference_groups(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    *,
    groups: int = 8,
    samples: int = 20,
    seed: int = 0,
) -> list[Group]:
    """Return the groups of images that are close in A and far in B, the most stable first.

    Args:
        a: (n, n) ranks of the neighbours in A (`neighbour_ranks`).
        b: the same in B.
        groups: into how many the images are divided; every image is in one.
        samples: bootstrap samples of the images that are divided again.
        seed: of the clustering and the samples.

    Raises:
        ValueError: different images, or fewer than four for each group.

    Source: Kondapaneni et al. 2025 (RDX); Hennig 2007, "Cluster-wise assessment of cluster
    stability", for the bootstrap.
    """
    n = len(a)
    if a.shape != b.shape or n < 4 * groups:
        raise ValueError(
            f"expected ranks of the same {4 * groups} or more images, got {n} and {len(b)}"
        )
    members = _members(cluster(a, b, groups=groups, seed=seed))
    random = np.random.default_rng(seed)
    # An image that is drawn twice would be its own neighbour: each counts once.
    drawn = [np.unique(random.integers(n, size=n)) for _ in range(samples)]

    def found_again(draw: int) -> list[float]:
        rows = drawn[draw]
        part = np.ix_(rows, rows)
        found = cluster(_ranks(a[part]), _ranks(b[part]), groups=groups, seed=seed + draw + 1)
        return [_most_similar(rows[np.isin(rows, m)], rows, _members(found)) for m in members]

    stability = np.array(in_threads(found_again, range(samples))).mean(axis=0)
    found_groups = [
        Group(images, _closeness(a, images), _closeness(b, images), float(stable))
        for images, stable in zip(members, stability, strict=True)
    ]
    return sorted(found_groups, key=lambda group: -group.stability)


def _ranks(values: NDArray) -> NDArray[np.int64]:
    """Return the rank of each entry within its row, from 0 on."""
    order = np.argsort(values, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable")


def _members(labels: NDArray) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _most_similar(
    images: NDArray[np.int64], rows: NDArray[np.int64], found: list[NDArray[np.int64]]
) -> float:
    """Return the highest Jaccard index of a group's drawn images with a group of the sample."""
    overlaps = [len(np.intersect1d(images, rows[other])) for other in found]
    return max(
        (o / (len(images) + len(f) - o) for o, f in zip(overlaps, found, strict=True)), default=0.0
    )


def _closeness(ranks: NDArray[np.int64], images: NDArray[np.int64]) -> float:
    """Return the mean rank of a group's pairs over that of the last; NaN for one image."""
    pairs = ranks[np.ix_(images, images)].sum(), len(images) * (len(images) - 1)
    return float(pairs[0] / pairs[1] / (len(ranks) - 1)) if pairs[1] else float("nan")
