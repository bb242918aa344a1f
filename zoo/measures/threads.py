"""Independent pieces of linear algebra, one in each thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_threads(function: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """Return what a function makes of each item, in order; as many at once as torch has threads.

    For many small decompositions, which NumPy and SciPy do without Python's lock, and which gain
    nothing from several threads each.

    >>> in_threads(abs, [-2, 1])
    [2, 1]
    """
    items = list(items)
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        return [function(item) for item in items]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
