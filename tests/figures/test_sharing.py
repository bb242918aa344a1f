"""Tasks divided between this process and a fork of it."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from zoo.figures import sharing
from zoo.figures.sharing import share


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(sharing, "_second_core", lambda: True)


def squares(tasks):
    done = {}
    for task in tasks:
        time.sleep(0.02)
        done[task] = task**2, os.getpid()
    return done


def test_both_processes_work_and_every_task_is_done_once(tmp_path):
    def work(tasks):
        done = squares(tasks)
        for task in done:
            with (tmp_path / f"{task}").open("a") as file:
                file.write("done\n")
        return done

    done = share(work, 30)
    assert {task: value for task, (value, _) in done.items()} == {i: i**2 for i in range(30)}
    assert len({process for _, process in done.values()}) == 2
    assert [(tmp_path / f"{i}").read_text() for i in range(30)] == ["done\n"] * 30


def test_progress_is_told_here_alone():
    told = []
    done = share(squares, 20, told.append)
    assert told == [task for task, (_, process) in done.items() if process == os.getpid()]


def test_what_a_killed_fork_took_is_done_here():
    here = os.getpid()

    def work(tasks):
        done = squares(tasks)
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    done = share(work, 10)
    assert sorted(done) == list(range(10))
    assert {process for _, process in done.values()} == {here}


def test_a_fork_that_sticks_is_waited_for_no_longer_than_patience(monkeypatch):
    """As on a lock that another thread held when the process was forked."""
    monkeypatch.setattr(sharing, "PATIENCE", 0.2)
    here, lock = os.getpid(), threading.Lock()
    lock.acquire()

    def work(tasks):
        if os.getpid() != here:
            lock.acquire()
        return squares(tasks)

    assert {task: value for task, (value, _) in share(work, 5).items()} == {
        i: i**2 for i in range(5)
    }


@pytest.mark.parametrize("guilty", [0, 7, 9])
def test_an_error_of_either_process_is_raised_here(guilty, capfd):
    def work(tasks):
        done = {}
        for task in tasks:
            time.sleep(0.01)
            if task == guilty:
                raise ValueError(f"task {task}")
            done[task] = task
        return done

    with pytest.raises(ValueError, match=f"task {guilty}"):
        share(work, 10)
    assert capfd.readouterr().err == ""


def test_one_core_does_all_here(monkeypatch):
    monkeypatch.setattr(sharing, "_second_core", lambda: False)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    told = []
    assert sorted(share(squares, 4, told.append)) == told == [0, 1, 2, 3]


def test_without_memory_for_a_fork_all_is_done_here(monkeypatch):
    def refuse():
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refuse)
    assert {process for _, process in share(squares, 4).values()} == {os.getpid()}


def test_no_process_and_no_open_file_is_left():
    def held():
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return os.listdir("/proc/self/fd"), children

    before = held()
    share(squares, 5)
    assert held() == before


def test_it_works_in_a_process_with_many_open_files():
    """`select` takes none beyond the 1,024th."""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert sorted(share(squares, 5)) == list(range(5))
    finally:
        for file in opened:
            os.close(file)
