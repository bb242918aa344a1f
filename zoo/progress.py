"""How long-running work reports its progress, whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

# Called with (done, in all, what is counted). Work of several parts counts something else in each.
OnProgress = Callable[[int, int, str], None]


def no_progress(done: int, total: int, what: str) -> None:
    """Report to nobody."""


def when(on_progress: OnProgress, words: str) -> OnProgress:
    """Return a function that reports the same with words after what is counted.

    >>> when(print, "before training")(3, 9, "images")
    3 9 images before training
    """
    return lambda done, total, what: on_progress(done, total, f"{what} {words}")
