"""Progress: what it says of the remaining time, and when it is silent."""

import threading
import time

import pytest

from zoo.cli import progress as module
from zoo.cli.progress import Pace, progress


def test_the_time_left_is_that_at_the_pace_since_the_first_report():
    pace = Pace(began=0.0)
    assert pace.text(12.0) == "starting, 12 s so far"
    # Loading took 20 s; it does not make the images look slow.
    pace.report(10, 110, "images", 20.0)
    assert pace.left(21.0) is None
    assert pace.text(21.0) == "10 of 110 images, 21 s so far"
    pace.report(30, 110, "images", 24.0)  # 0.2 s each
    assert pace.left(24.0) == pytest.approx(80 * 0.2)
    assert pace.left(26.0) == pytest.approx(80 * 0.2 - 2)
    assert pace.text(24.0) == "30 of 110 images, about 16 s left"


def test_what_was_fast_or_slow_more_than_a_minute_ago_does_not_count():
    pace = Pace(began=0.0)
    for second in range(101):
        pace.report(10 * second, 2000, "images", float(second))
    assert pace.left(100.0) == pytest.approx(100)
    for second in range(101, 161):  # ten times slower
        pace.report(1000 + second - 100, 2000, "images", float(second))
    assert pace.left(160.0) == pytest.approx(940)
    pace.report(1070, 2000, "images", 360.0)  # a batch that takes longer than the minute
    assert pace.left(360.0) == pytest.approx(930 * 200 / 10)


def test_a_run_that_continues_is_not_credited_with_what_was_done_before():
    pace = Pace(began=0.0)
    pace.report(900, 1000, "images", 5.0)
    pace.report(910, 1000, "images", 15.0)
    assert pace.left(15.0) == pytest.approx(90)


def test_no_time_is_promised_for_what_follows_the_last_report():
    pace = Pace(began=0.0)
    pace.report(1, 2, "images", 1.0)
    pace.report(2, 2, "images", 2.0)
    assert pace.left(3.0) is None
    assert pace.text(75.0) == "all 2 images done, finishing, 1 min 15 s so far"


def test_a_second_part_has_a_pace_of_its_own():
    pace = Pace(began=0.0)
    for done in (10, 20, 30):
        pace.report(done, 30, "images", float(done))
    pace.report(5, 15, "images", 31.0)
    pace.report(10, 15, "images", 41.0)
    assert pace.left(41.0) == pytest.approx(10)


def test_parts_are_numbered_and_each_has_its_own_time():
    pace = Pace(began=0.0, parts=("images", "analyses", "figures"))
    assert pace.text(2.0) == "starting, 2 s so far"
    pace.report(10, 30, "images", 10.0)
    pace.report(20, 30, "images", 20.0)
    assert pace.text(20.0) == "1/3: 20 of 30 images, about 10 s left"
    pace.report(30, 30, "images", 30.0)
    assert pace.text(31.0) == "1/3: all 30 images done, 31 s so far"
    pace.report(0, 40, "analyses", 32.0)  # more than there were images: still a part of its own
    assert pace.text(33.0) == "2/3: 0 of 40 analyses, 33 s so far"
    pace.report(20, 40, "analyses", 34.0)
    assert pace.text(34.0) == "2/3: 20 of 40 analyses, about 2 s left"
    pace.report(5, 5, "figures", 40.0)
    assert pace.text(42.0) == "3/3: all 5 figures done, finishing, 42 s so far"


def test_what_takes_longer_than_its_pace_promises_nothing():
    pace = Pace(began=0.0)
    pace.report(1, 3, "images", 1.0)
    pace.report(2, 3, "images", 2.0)
    assert pace.text(2.4) == "2 of 3 images, about 1 s left"
    assert pace.left(60.0) is None
    assert pace.text(60.0) == "2 of 3 images, 1 min 0 s so far"


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
