"""Progress on stderr: a bar on a terminal, elsewhere a plain line every ten seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from zoo.cli.output import is_quiet

PLAIN_SECONDS = 10.0
REDRAW_SECONDS = 0.1
RECENT_SECONDS = 60.0  # over which the pace is taken: what else runs on the machine changes

logger = logging.getLogger(__name__)


@dataclass
class Pace:
    """How far a job is, and how long the rest takes at the pace of its last minute.

    What comes before the first report (loading models) and after the last one (drawing a
    report) has no known length: then the time that passed is told instead of a guess.
    """

    began: float
    done: int = 0
    total: int = 0
    seen: float = 0.0
    recent: deque[tuple[int, float]] = field(default_factory=deque)

    def report(self, done: int, total: int, now: float) -> None:
        """Take a report; fewer done than before is the next part of the job."""
        if done < self.done:
            self.recent = deque()  # not cleared: see `left`
        self.recent.append((done, now))
        while len(self.recent) > 2 and self.recent[1][1] <= now - RECENT_SECONDS:
            self.recent.popleft()
        self.done, self.total, self.seen = done, total, now

    def left(self, now: float) -> float | None:
        """Return the seconds that the reported part will still take; None where unknown."""
        recent = self.recent  # another thread may begin the next part meanwhile
        if not recent or self.done >= self.total:
            return None
        (first, began), (last, ended) = recent[0], recent[-1]
        if first == last:
            return None
        each = (ended - began) / (last - first)
        return max(0.0, (self.total - self.done) * each - (now - self.seen))

    def text(self, unit: str, now: float) -> str:
        """Tell the state in words."""
        left = self.left(now)
        if left is not None:
            return f"{self.done:,} of {self.total:,} {unit}, about {_duration(left)} left"
        passed = f"{_duration(now - self.began)} so far"
        if not self.recent:
            return f"starting, {passed}"
        if self.done >= self.total:
            return f"all {self.total:,} {unit} done, finishing, {passed}"
        return f"{self.done:,} of {self.total:,} {unit}, {passed}"


def _duration(seconds: float) -> str:
    """Say a duration to the second, or to the minute from ten minutes on.

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
def progress(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to be called with (done, in all); silent with `--quiet`.

    A thread of its own keeps the display alive while nothing is reported.
    """
    pace, over = Pace(time.monotonic()), threading.Event()
    show = _no_display if is_quiet() else _bar if sys.stderr.isatty() else _lines
    with show(label, unit, pace, over):
        try:
            yield lambda done, total: pace.report(done, total, time.monotonic())
        finally:
            over.set()
    logger.info("%s: took %s", label, _duration(time.monotonic() - pace.began))


@contextmanager
def _no_display(label: str, unit: str, pace: Pace, over: threading.Event) -> Iterator[None]:
    yield


@contextmanager
def _lines(label: str, unit: str, pace: Pace, over: threading.Event) -> Iterator[None]:
    def tell() -> None:
        while not over.wait(PLAIN_SECONDS):
            print(f"{label}: {pace.text(unit, time.monotonic())}", file=sys.stderr, flush=True)

    with _thread(tell):
        yield


@contextmanager
def _bar(label: str, unit: str, pace: Pace, over: threading.Event) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.fields[label]}"), BarColumn(), TextColumn("{task.fields[text]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=None, label=label, text="")

        def draw() -> None:
            while not over.wait(REDRAW_SECONDS):
                running = pace.recent and pace.done < pace.total
                bar.update(
                    task,
                    completed=pace.done,
                    total=pace.total if running else None,
                    text=pace.text(unit, time.monotonic()),
                    refresh=True,
                )

        with _thread(draw):
            yield


@contextmanager
def _thread(run: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
