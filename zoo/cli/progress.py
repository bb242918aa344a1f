"""Progress on stderr: a bar on a terminal, elsewhere a plain line every ten seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from zoo.cli.output import is_quiet, terminal
from zoo.errors import printable
from zoo.progress import OnProgress

PLAIN_SECONDS = 10.0
REDRAW_SECONDS = 0.1
RECENT_SECONDS = 60.0  # over which the pace is taken: what else runs on the machine changes

logger = logging.getLogger(__name__)


@dataclass
class Pace:
    """How far a job is, and how long its present part takes at the pace of the last minute.

    What comes before the first report (loading models) and after the last one (writing files)
    has no known length: then the time that passed is told instead of a guess.
    """

    began: float
    parts: Sequence[str] = ()
    what: str = ""
    done: int = 0
    total: int = 0
    seen: float = 0.0
    recent: deque[tuple[int, float]] = field(default_factory=deque)

    def report(self, done: int, total: int, what: str, now: float) -> None:
        """Take a report; another thing counted, or fewer done than before, is the next part."""
        if what != self.what or done < self.done:
            self.recent = deque()  # not cleared: see `left`
        self.recent.append((done, now))
        while len(self.recent) > 2 and self.recent[1][1] <= now - RECENT_SECONDS:
            self.recent.popleft()
        self.what, self.done, self.total, self.seen = what, done, total, now

    def left(self, now: float) -> float | None:
        """Return the seconds that the present part will still take; None where unknown.

        Neither is known of what takes longer than its pace said, as one analysis of several may.
        """
        recent = self.recent  # another thread may begin the next part meanwhile
        if not recent or self.done >= self.total:
            return None
        (first, began), (last, ended) = recent[0], recent[-1]
        if first == last:
            return None
        each = (ended - began) / (last - first)
        left = (self.total - self.done) * each - (now - self.seen)
        return left if left > 0 else None

    def text(self, now: float) -> str:
        """Describe the state in words."""
        passed = f"{_duration(now - self.began)} so far"
        if not self.recent:
            return f"starting, {passed}"
        # Numbered, so that nobody takes the time left of a part for that of the whole.
        number = self.parts.index(self.what) + 1 if self.what in self.parts else 0
        part = f"{number}/{len(self.parts)}: " if number else ""
        if self.done >= self.total:
            ending = "" if number < len(self.parts) else "finishing, "
            return f"{part}all {self.total:,} {self.what} done, {ending}{passed}"
        left = self.left(now)
        rest = passed if left is None else f"about {_duration(left)} left"
        return f"{part}{self.done:,} of {self.total:,} {self.what}, {rest}"


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

    Args:
        label: the job.
        parts: what it counts, in order, where that is more than one thing.
    """
    pace, over = Pace(time.monotonic(), parts), threading.Event()
    with _display(label, pace) as (seconds, draw):

        def keep_alive() -> None:
            while not over.wait(seconds):
                draw()

        thread = threading.Thread(target=keep_alive, name="progress", daemon=True)
        thread.start()
        try:
            yield lambda done, total, what: pace.report(done, total, what, time.monotonic())
        finally:
            over.set()
            thread.join()
    logger.info("%s: took %s", label, _duration(time.monotonic() - pace.began))


@contextmanager
def _display(label: str, pace: Pace) -> Iterator[tuple[float | None, Callable[[], None]]]:
    """Yield after how many seconds the display is drawn again (None: never), and what draws it."""
    if is_quiet():
        yield None, lambda: None
        return
    if not sys.stderr.isatty():
        yield (
            PLAIN_SECONDS,
            lambda: print(f"{label}: {pace.text(time.monotonic())}", file=sys.stderr, flush=True),
        )
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.fields[label]}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(
        *columns, console=terminal(sys.stderr), transient=True, auto_refresh=False
    ) as bar:
        task = bar.add_task("", total=None, label=printable(label), text="")

        def draw() -> None:
            running = pace.recent and pace.done < pace.total
            bar.update(
                task,
                completed=pace.done,
                total=pace.total if running else None,
                text=pace.text(time.monotonic()),
                refresh=True,
            )

        yield REDRAW_SECONDS, draw
