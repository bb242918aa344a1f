"""Progress: what it says of the remaining time, and when it is silent."""

import threading
import time

import pytest
import rich.progress

from zoo.cli import progress as module
from zoo.cli.progress import describe, progress


@pytest.fixture
def said(monkeypatch):
    """What is told after reports, each (seconds, done, total, what is counted)."""

    def told(reports, at, parts=()):
        monkeypatch.setattr(module, "PLAIN_SECONDS", 1e9)
        clock, made = [0.0], []
        monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr("rich.progress.Task", keep(made, rich.progress.Task))
        with progress("compare", parts) as report:
            for clock[0], *reported in reports:
                report(*reported)
            clock[0] = at
            return describe(made[0], parts)

    return told


def keep(made, kind):
    def make(*args, **known):
        made.append(kind(*args, **known))
        return made[-1]

    return make


TWO = [(1.0, 1, 3, "images"), (2.0, 2, 3, "images")]
PARTS = ("images", "analyses")


@pytest.mark.parametrize(
    ("reports", "at", "text"),
    [
        ([], 12, "starting, 12 s so far"),
        # Loading took 20 s; it does not make the images look slow.
        ([(20, 10, 110, "images")], 21, "10 of 110 images, 21 s so far"),
        ([(20, 10, 110, "images"), (24, 30, 110, "images")], 25, "30 of 110 images, about 15 s l"),
        # What was done before a run continues is no pace of its own.
        ([(5, 900, 1000, "n"), (15, 910, 1000, "n")], 15, "910 of 1,000 n, about 1 min 30 s left"),
        # No time is promised for what takes longer than its pace, or follows the last report.
        (TWO, 2.4, "2 of 3 images, about 1 s left"),
        (TWO, 60, "2 of 3 images, 1 min 0 s so far"),
        ([*TWO, (3, 3, 3, "images")], 75, "3 of 3 images, finishing, 1 min 15 s so far"),
        # Less done than before is another part, with a pace of its own.
        ([*TWO, (3, 1, 9, "images"), (13, 2, 9, "images")], 13, "2 of 9 images, about 1 min 10 s"),
    ],
)
def test_what_is_said_of_the_time(said, reports, at, text):
    assert said(reports, at).startswith(text)


def test_parts_are_numbered_and_each_has_its_own_time(said):
    assert said(TWO, 2, PARTS) == "1/2: 2 of 3 images, about 1 s left"
    reports = [*TWO, (3, 3, 3, "images")]
    assert said(reports, 4, PARTS) == "1/2: 3 of 3 images, 4 s so far"
    reports += [(5, 10, 40, "analyses"), (6, 20, 40, "analyses")]
    assert said(reports, 6, PARTS) == "2/2: 20 of 40 analyses, about 2 s left"
    reports += [(9, 40, 40, "analyses")]
    assert said(reports, 9, PARTS) == "2/2: 40 of 40 analyses, finishing, 9 s so far"


def test_without_a_terminal_there_is_a_line_every_so_often(monkeypatch, capsys):
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.1)
    with progress("compare") as report:
        time.sleep(0.15)
        for i in range(1, 5):
            report(i, 8, "images")
            time.sleep(0.05)
    error = capsys.readouterr().err.splitlines()
    assert error[0] == "compare: starting, 0 s so far"
    assert error[-1].startswith("compare: ")
    assert "of 8 images" in error[-1]
    assert len(error) <= 4


def test_a_quick_job_says_nothing(capsys):
    with progress("compare") as report:
        report(1, 1, "images")
    assert capsys.readouterr().err == ""


def test_quiet_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.01)
    monkeypatch.setattr(module, "is_quiet", lambda: True)
    with progress("compare") as report:
        report(1, 2, "images")
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_ends_the_display_and_is_passed_on(monkeypatch, terminal):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal, raising=False)
    with pytest.raises(KeyboardInterrupt), progress("compare"):
        raise KeyboardInterrupt
    assert "progress" not in [thread.name for thread in threading.enumerate()]
