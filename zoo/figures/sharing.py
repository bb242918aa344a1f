"""Work in Python on two cores: a fork of this process takes every other task or so."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from typing import NoReturn, TypeVar

T = TypeVar("T")
Work = Callable[[Iterator[int]], dict[int, T]]
PATIENCE = 60.0  # seconds at least: how long a fork that has stuck is waited for


def share(
    work: Work[T], count: int, on_task: Callable[[int], None] = lambda task: None
) -> dict[int, T]:
    """Do the tasks 0 to count − 1 here and, where there is a second core, in a fork.

    Args:
        work: does the tasks that it is given, one by one, and returns of each what JSON can hold.
        count: at most 256.
        on_task: is called here with each task that is begun here.

    Returns:
        What `work` returned of every task. A fork may die, or stick on a lock that another thread
        held when it began: what it took with it is done here, and so is what it failed at.
    """
    if not _second_core():
        return work(_told(iter(range(count)), on_task))
    # Each byte is a task, and the pipe gives it to one process: no lock that a dead one could hold.
    tasks, put = os.pipe()
    os.write(put, bytes(range(count)))
    os.close(put)
    answer, reply = os.pipe()
    began, fork = time.monotonic(), _fork()
    if fork == 0:
        _help(work, tasks, reply)
    os.close(reply)
    try:
        done = work(_told(_taken(tasks), on_task))
        waited = max(PATIENCE, time.monotonic() - began)
        if wait([answer], waited):  # as `select` does, which takes no file beyond the 1,024th
            with open(answer, encoding="utf-8", closefd=False) as file, suppress(ValueError):
                done |= json.load(file)
        lost = [task for task in range(count) if task not in done]
        return done | work(iter(lost)) if lost else done
    finally:
        if fork:
            os.kill(fork, signal.SIGKILL)
            os.waitpid(fork, 0)
        os.close(tasks)
        os.close(answer)


def _second_core() -> bool:
    # Elsewhere forks are not safe, or there are none.
    linux = sys.platform == "linux"
    return linux and len(os.sched_getaffinity(0)) > 1 and os.environ.get("OMP_NUM_THREADS") != "1"


def _fork() -> int | None:
    with warnings.catch_warnings(), suppress(OSError):  # of memory, or of too many processes
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: see `share`
        return os.fork()
    return None


def _taken(tasks: int) -> Iterator[int]:
    while task := os.read(tasks, 1):
        yield task[0]


def _told(tasks: Iterator[int], on_task: Callable[[int], None]) -> Iterator[int]:
    for task in tasks:
        on_task(task)
        yield task


def _help(work: Work[T], tasks: int, reply: int) -> NoReturn:
    """Work in the fork, and end it: nothing of the first process goes on here."""
    parent = os.getppid()
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        done = work(task for task in _taken(tasks) if os.getppid() == parent)
        with open(reply, "w", encoding="utf-8") as file:
            json.dump([*done.items()], file)
    finally:
        os._exit(0)
