"""Which images: seeded orders and splits that are the same on every machine.

NumPy's `RandomState` is used since its stream is frozen; `Generator`'s may change with a version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError

MIN_BATCH = 4  # images: an unbiased HSIC divides by n - 3


def stratified_split(
    labels: NDArray[np.int64], fraction: float, seed: int, class_names: Sequence[str] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices into (rest, held out), holding out `fraction` of every class.

    At least one image of a class is held out and at least one stays; `class_names` are for the
    error where a class has too few.

    >>> rest, held_out = stratified_split(np.array([0, 0, 0, 0, 1, 1]), 0.5, seed=0)
    >>> len(rest), len(held_out)
    (3, 3)
    """
    random = np.random.RandomState(seed)
    held_out = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            name = repr(class_names[label]) if class_names else label
            raise UserError(
                f"class {name} has {len(members)} image; expected at least 2, "
                "one to train on and one to hold out"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.append(members[:count])
    chosen = np.sort(np.concatenate(held_out)).astype(np.int64)
    rest = np.setdiff1d(np.arange(len(labels)), chosen).astype(np.int64)
    return rest, chosen


def balanced_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order indices so that every prefix is class-balanced within one image a class.

    That holds for as long as no class has run out; the rest of the larger classes follows.

    >>> labels = np.array([0, 0, 1, 1])
    >>> labels[balanced_order(labels, seed=0)].tolist()
    [0, 1, 0, 1]
    """
    random = np.random.RandomState(seed)
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[random.permutation(members)] = np.arange(len(members))
    return np.lexsort((labels, rank)).astype(np.int64)


def even_batches(count: int, size: int) -> list[tuple[int, int]]:
    """Return (start, stop) of batches of nearly equal size, none under 4.

    A short last one would weigh as much as the others in what is averaged over batches: the
    error of CKA triples where 4 images are left over from 128.

    Args:
        count: images in all, 4 or more.
        size: the most in a batch; exceeded where smaller ones would be under 4.

    >>> even_batches(130, 128), even_batches(10, 4)
    ([(0, 65), (65, 130)], [(0, 5), (5, 10)])
    """
    number = max(1, min(math.ceil(count / size), count // MIN_BATCH))
    ends = np.linspace(0, count, number + 1).round().astype(int).tolist()
    return list(pairwise(ends))
