"""Progress on stderr: a bar on a terminal, elsewhere a plain line every ten seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from zoo.cli.output import is_quiet, terminal
from zoo.errors import printable
from zoo.progress import OnProgress

if TYPE_CHECKING:
    from rich.progress import Task

PLAIN_SECONDS = 10.0
REDRAW_SECONDS = 0.1
RECENT_SECONDS = 600.0  # over which the pace is measured: the machine's load changes

logger = logging.getLogger(__name__)


def describe(task: Task, parts: Sequence[str] = ()) -> str:
    """Say how far a job is, and how long its present part will still take.

    Before the first report (loading models), after the last one (writing files), and if a step
    takes longer than the pace predicted, the rest is unknown: then it gives the time so far.
    """
    now, what, total = task.get_time(), task.fields["what"], task.total
    passed = f"{_duration(now - task.fields['began'])} so far"
    if total is None:
        return f"starting, {passed}"
    # Parts are numbered, so that the time left of one is not taken for that of the whole.
    number = parts.index(what) + 1 if what in parts else 0
    part = f"{number}/{len(parts)}: " if number else ""
    if task.finished:
        rest = passed if number < len(parts) else f"finishing, {passed}"
    else:
        left = (task.time_remaining or 0) - (now - task.fields["seen"])
        rest = f"about {_duration(left)} left" if left > 0 else passed
    return f"{part}{task.completed:,} of {total:,} {what}, {rest}"


def _duration(seconds: float) -> str:
    """Write a duration to the second, or to the minute from ten minutes on.

    >>> _duration(75), _duration(7322)
    ('1 min 15 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def progress(label: str, parts: Sequence[str] = ()) -> Iterator[OnProgress]:
    """Yield a function that reports progress; silent with `--quiet`.

    A thread of its own keeps the display alive while nothing is reported.

    `parts` names what the job counts, in order, if that is more than one thing.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    quiet, on_terminal, over = is_quiet(), sys.stderr.isatty(), threading.Event()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
    bar = Progress(
        *columns, console=terminal(sys.stderr), auto_refresh=False, transient=True,
        speed_estimate_period=RECENT_SECONDS, get_time=time.monotonic,
    )  # fmt: skip
    began = time.monotonic()
    known: dict[str, Any] = {"began": began, "seen": began, "what": "", "text": ""}
    bar.add_task(printable(label), total=None, **known)
    (task,) = bar.tasks

    def report(done: int, total: int, what: str) -> None:
        """Take a report; another thing counted, or fewer done than before, is the next part."""
        if what != task.fields["what"] or done < task.completed:
            bar.reset(task.id, total=total, **task.fields | {"what": what})
        bar.update(task.id, completed=done, total=total, seen=time.monotonic())

    def keep_alive() -> None:
        while not over.wait(REDRAW_SECONDS if on_terminal else PLAIN_SECONDS):
            if on_terminal:
                bar.update(task.id, text=describe(task, parts), refresh=True)
            else:
                print(f"{label}: {describe(task, parts)}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=keep_alive, name="progress", daemon=True)
    with bar if on_terminal and not quiet else nullcontext():
        if not quiet:
            thread.start()
        try:
            yield report
        finally:
            over.set()
            if not quiet:
                thread.join()
    logger.info("%s: took %s", label, _duration(time.monotonic() - began))
