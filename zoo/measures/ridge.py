"""Linear probes: how well does a linear map read the class off a layer's features?

Closed-form ridge least squares to ±1 targets (Raghu et al. 2021, Figs 11 and 13), with the
penalty chosen on a held-out part of the training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zoo.measures.sampling import stratified_split
from zoo.measures.threads import in_threads
from zoo.progress import OnProgress, no_progress

# In units of the mean eigenvalue of XᵀX, so that they suit features of any scale and width.
PENALTIES = tuple(10.0**k for k in range(-6, 5))
HELD_OUT = 0.2
FEW_SHOT = 10
DRAWS = 3
CONSTANT = 1e-6  # the deviation of constant features, relative to their norm, is rounding


@dataclass(frozen=True)
class Probe:
    """A fitted probe's share of right test images, and the penalty that was chosen.

    `held_out_accuracy` is the chosen penalty's on the held-out part of the training images;
    `right` (m,) says which of the test images are right.
    """

    accuracy: float
    penalty: float
    held_out_accuracy: float
    right: NDArray[np.bool_] = field(repr=False, compare=False)


@dataclass(frozen=True)
class LayerProbe:
    """A layer's probes: on all training images, and few-shot (mean accuracy over draws).

    Either is None where it could not be fitted; `problem` then says why.
    """

    all: Probe | None
    few_shot: float | None
    problem: str = ""


@dataclass(frozen=True)
class RidgePath:
    """Ridge regression solved for every penalty at once.

    With centred features X (n, d) and targets Y (n, c), W(λ) = B diag(1/(e + λ)) T, where e are
    the eigenvalues of XᵀX, or of XXᵀ where that is the smaller one.
    """

    mean: NDArray[np.float64]
    offset: NDArray[np.float64]
    basis: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    targets: NDArray[np.float64]

    def weights(self, penalty: float) -> NDArray[np.float64]:
        """Return W (d, c) that minimises ‖XW − Y‖² + penalty · ‖W‖²."""
        return self.basis @ (self.targets / (self.eigenvalues + penalty)[:, None])

    def predict(self, x: NDArray, penalty: float) -> NDArray[np.float64]:
        """Return predicted targets (m, c) for features (m, d); the intercept is not penalised."""
        return (x - self.mean) @ self.weights(penalty) + self.offset


def solve_ridge(x: NDArray, y: NDArray) -> RidgePath:
    """Solve ridge regression with an intercept, for all penalties > 0 at once.

    Args:
        x: (n, d) features.
        y: (n, c) targets.

    Raises:
        ValueError: features that are not finite or constant.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("features are not finite")
    mean, offset = x.mean(axis=0), y.mean(axis=0)
    moved, wanted = x - mean, y - offset
    if np.linalg.norm(moved) <= CONSTANT * np.linalg.norm(x):
        raise ValueError("features are constant")
    n, d = moved.shape
    values, vectors = np.linalg.eigh(moved.T @ moved if d <= n else moved @ moved.T)
    values = np.maximum(values, 0)  # rounding can leave −1e-17
    if d <= n:
        return RidgePath(mean, offset, vectors, values, vectors.T @ (moved.T @ wanted))
    return RidgePath(mean, offset, moved.T @ vectors, values, vectors.T @ wanted)


def ridge_probe(
    train_x: NDArray,
    train_y: NDArray,
    test_x: NDArray,
    test_y: NDArray,
    *,
    seed: int = 0,
) -> Probe:
    """Fit a linear classifier by ridge least squares and test it.

    Targets are +1 for an image's class and −1 for the others; the highest output wins. Each of
    `PENALTIES` is fitted on part of the training images and judged on the rest; the best one (of
    equals, the largest) is fitted again on all of them.

    Args:
        train_x: (n, d) features.
        train_y: (n,) class labels, at least two classes with two images.
        test_x: (m, d) features.
        test_y: (m,) class labels.
        seed: of the choice of the images that judge the penalties.

    Raises:
        ValueError: too few classes or images, or features that are constant or not finite.

    Source: Raghu et al. 2021, Figs 11, 13, D.4.
    """
    train_y, test_y = np.asarray(train_y), np.asarray(test_y)
    fit, judge = hold_out(train_y, HELD_OUT, seed=seed)
    classes = np.unique(train_y)
    if len(np.unique(train_y[judge])) < 2:
        raise ValueError("expected at least two classes with two training images")
    targets = np.where(train_y[:, None] == classes, 1.0, -1.0)
    path, unit = solve_ridge(train_x[fit], targets[fit]), mean_eigenvalue(train_x[fit])
    scores = {
        penalty: float(
            _right(path.predict(train_x[judge], penalty * unit), classes, train_y[judge]).mean()
        )
        for penalty in PENALTIES
    }
    best = max(scores, key=lambda penalty: (scores[penalty], penalty))
    path, unit = solve_ridge(train_x, targets), mean_eigenvalue(train_x)
    right = _right(path.predict(test_x, best * unit), classes, test_y)
    return Probe(float(right.mean()), best, scores[best], right)


def fit_layers(
    train_features: Mapping[str, NDArray],
    train_labels: NDArray[np.int64],
    test_features: Mapping[str, NDArray],
    test_labels: NDArray[np.int64],
    *,
    few_shot: int = FEW_SHOT,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> dict[str, LayerProbe]:
    """Probe every layer, on all training images and on a few of each class.

    Args:
        train_features: (n, d) of each layer; widths may differ.
        train_labels: (n,) class labels.
        test_features: (m, d) of the same layers.
        test_labels: (m,) class labels.
        few_shot: training images of a class in a few-shot probe; fewer where there are fewer.
        seed: of all choices of images.
        on_progress: is called for every layer.

    Returns:
        A `LayerProbe` a layer, in the order given.

    Raises:
        ValueError: the layers of training and test features differ.
    """
    if list(train_features) != list(test_features):
        raise ValueError(
            f"expected the same layers, got {list(train_features)} and {list(test_features)}"
        )
    few = [few_shot_images(train_labels, few_shot, seed=seed + draw) for draw in range(DRAWS)]
    done: list[str] = []

    def probe(layer: str) -> LayerProbe:
        x, test = train_features[layer], (test_features[layer], test_labels)
        try:
            whole = ridge_probe(x, train_labels, *test, seed=seed)
            shots = [ridge_probe(x[rows], train_labels[rows], *test, seed=seed) for rows in few]
            found = LayerProbe(whole, float(np.mean([s.accuracy for s in shots])))
        except ValueError as error:
            found = LayerProbe(None, None, str(error))
        done.append(layer)
        on_progress(len(done), len(train_features), "layers probed")
        return found

    return dict(zip(train_features, in_threads(probe, train_features), strict=True))


def hold_out(
    labels: NDArray, share: float, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split images into (rest, held out) by class; a class of one image is not held out.

    Args:
        labels: (n,) class labels.
        share: of the images of each other class to hold out; at least one, and not all.
        seed: of the choice.
    """
    classes, counts = np.unique(labels, return_counts=True)
    several = np.flatnonzero(np.isin(labels, classes[counts > 1]))
    if not several.size:
        return np.arange(len(labels)), several
    held_out = several[stratified_split(labels[several], share, seed)[1]]
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def few_shot_images(labels: NDArray, per_class: int, *, seed: int) -> NDArray[np.int64]:
    """Return the indices of `per_class` images of each class, or of all where there are fewer."""
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:per_class]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def mean_eigenvalue(x: NDArray) -> float:
    """Return the mean eigenvalue of XᵀX of the centred features."""
    return float(np.asarray(x, dtype=np.float64).var(axis=0).sum() * len(x) / x.shape[1])


def _right(scores: NDArray, classes: NDArray, labels: NDArray) -> NDArray[np.bool_]:
    return np.asarray(classes[scores.argmax(axis=1)] == labels)
