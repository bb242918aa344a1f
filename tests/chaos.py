"""Kills a command at any moment, runs it again, and tells whether the end is the undisturbed one.

    python -m tests.chaos [ROUNDS] [SEED]

Every round is a fork of this process, which has imported torch and MLflow, so it takes seconds
instead of half a minute. A project is always at the same path: MLflow keeps absolute addresses.
"""

from __future__ import annotations

import collections
import mmap
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.chaos_steps import FACTORY, PARAMS, REPRO, SCENARIOS, Scenario, Step, dvc, end, warm
from tests.project_state import difference, project_state
from zoo.errors import BAD_INPUT
from zoo.project.doctor import LOCK_FIXES

ROOT = Path(__file__).parent.parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONGEST_SECONDS = 300
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect"}


class Events:
    """Counts what processes write to disk and database, and ends them at one of these moments."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 8)
        self.fatal, self.signal = 0, signal.SIGKILL

    @property
    def count(self) -> int:
        return int.from_bytes(self.shared[:], "little")

    def clear(self, fatal: int, number: int) -> None:
        self.shared[:] = bytes(8)
        self.fatal, self.signal = fatal, number

    def happen(self, *_: Any) -> None:
        count = self.count + 1
        self.shared[:] = count.to_bytes(8, "little")
        if count == self.fatal:
            os.killpg(0, self.signal)

    def watch(self) -> None:
        """Count from now on, in this process and its forks."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "before_cursor_execute", self.happen)
        event.listen(Engine, "commit", self.happen)
        sys.addaudithook(self._audit)

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in WRITES or (
            name == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        ):
            self.happen()


@dataclass
class Found:
    """What rounds found: how many, how they ended, and what differed."""

    rounds: int = 0
    kills: collections.Counter = field(default_factory=collections.Counter)
    leftovers: collections.Counter = field(default_factory=collections.Counter)
    differences: list[str] = field(default_factory=list)


class Chaos:
    """Rounds of kills in a folder of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.work = folder, folder / "project"
        self.random, self.events = random.Random(seed), Events()
        self.found = Found()
        self._undisturbed: dict[str, tuple[dict[str, Any], float, int]] = {}

    def round(self, name: str) -> None:
        """Disturb a scenario once or twice, let it end, and compare with the undisturbed end."""
        scenario = SCENARIOS[name]
        expected, seconds, events = self.undisturbed(name)
        self._restore(scenario.before)
        times = self.random.choice((1, 1, 2))
        told = [name, *(self._disturb(scenario, seconds, events) for _ in range(times))]
        wrong = self._finish(scenario)
        state = self._state()
        wrong += [
            f"{kind}: {difference(expected[kind], state[kind])}"
            for kind in expected
            if state[kind] != expected[kind]
        ]
        self.found.rounds += 1
        self.found.differences += [f"{', '.join(told)}: {what}" for what in wrong]

    def _disturb(self, scenario: Scenario, seconds: float, events: int) -> str:
        """End a scenario's process at some moment; say which."""
        number = self.random.choice(SIGNALS)
        self.found.kills[number.name] += 1
        if self.random.random() < 0.5:
            event = self.random.randint(1, events)
            self._run(*scenario.steps, fatal=event, number=number)
            return f"{number.name} at event {event} of {events}"
        after = self.random.uniform(0, seconds)
        alone = scenario.steps == (REPRO,) and self.random.random() < 0.3
        self._run(*scenario.steps, after=after, number=number, alone=alone)
        return f"{number.name} after {after:.2f} of {seconds:.2f} s{' to dvc alone' * alone}"

    def _finish(self, scenario: Scenario) -> list[str]:
        """Run the same again, in peace; return what did not end well."""
        for name in LOCK_FIXES:
            lock = self.work / name
            if lock.exists() and not lock.read_text():
                self.found.leftovers[f"empty {name}"] += 1
                lock.unlink()  # as `make repro` says
        wrong = []
        again = self._run(*scenario.steps)
        if again and not (scenario.may_be_done and again == BAD_INPUT):
            wrong.append(f"ended with {again}: {self._said()}")
        if scenario.after and (code := self._run(*scenario.after)):
            wrong.append(f"what came after ended with {code}: {self._said()}")
        if code := self._run(self._clean):
            wrong.append(f"zoo doctor --clean ended with {code}: {self._said()}")
        return wrong

    def undisturbed(self, name: str) -> tuple[dict[str, Any], float, int]:
        """Return the state at the end of a scenario, its seconds and its events."""
        if name not in self._undisturbed:
            scenario = SCENARIOS[name]
            self._restore(scenario.before)
            began = time.perf_counter()
            assert not self._run(*scenario.steps, fatal=0), self._said()
            seconds, events = time.perf_counter() - began, self.events.count
            assert not scenario.after or not self._run(*scenario.after), self._said()
            self._run(self._clean)
            self._undisturbed[name] = self._state(), seconds, events
        return self._undisturbed[name]

    def _restore(self, before: tuple[Step, ...]) -> None:
        """Bring the project to where a scenario begins; made once for each beginning."""
        kept = self.folder / f"before-{len(before)}"
        if kept.exists():
            shutil.rmtree(self.work)
            shutil.copytree(kept, self.work, symlinks=True)
            return
        if before:
            self._restore(before[:-1])
            assert not self._run(before[-1]), self._said()
        else:
            self._begin()
        shutil.copytree(self.work, kept, symlinks=True)

    def _begin(self) -> None:
        self.work.mkdir(parents=True)
        (self.work / "params.yaml").write_text(yaml.safe_dump(PARAMS))
        (self.work / "factory.py").write_text(FACTORY)
        for link in ("pipelines", "zoo", "dvc.yaml"):
            (self.work / link).symlink_to(ROOT / link)

        def init() -> None:
            from zoo.registry.store import open_store

            open_store()  # MLflow takes seconds to make a database
            runpy.run_path("factory.py", run_name="__main__")
            dvc("init", "--no-scm", "--quiet")()

        assert not self._run(init), self._said()

    def _run(
        self,
        *steps: Step,
        fatal: int | None = None,
        after: float | None = None,
        number: int = signal.SIGKILL,
        alone: bool = False,
    ) -> int:
        """Do steps in a process, one after the other; end it at an event or after seconds."""
        self.events.clear(fatal or 0, number)
        for step in steps:
            child = os.fork()
            if not child:
                # Within `end`, which an interrupt does not leave: it would remove the whole folder.
                end(lambda step=step: self._do(step, watched=fatal is not None))
            with suppress(OSError):
                os.setpgid(child, child)
            code = self._wait(child, after, number, alone)
            if code:
                return code
        return 0

    def _do(self, step: Step, *, watched: bool) -> None:
        os.setpgid(0, 0)
        self._settle()
        if watched:
            self.events.watch()
        step()

    def _settle(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output = os.open(self.folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self.work)
        sys.path.insert(0, str(self.work))
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        os.environ |= {"TMPDIR": str(temporary), "XDG_CONFIG_HOME": str(self.folder / "config")}
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
            os.environ.pop(name, None)
        from zoo import files
        from zoo.project import leftovers
        from zoo.registry import configure_mlflow

        configure_mlflow()
        files.HELD_SECONDS = leftovers.HELD_SECONDS = -1  # rounds follow at once

    def _wait(self, child: int, after: float | None, number: int, alone: bool) -> int:
        """Wait for a process and those it started; send the signal when it is time."""
        began, sent = time.monotonic(), False
        code = None
        while code is None or _group_lives(child):
            if code is None:
                ended, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if ended else None
            if after is not None and not sent and time.monotonic() - began >= after:
                sent = True
                with suppress(ProcessLookupError):
                    (os.kill if alone else os.killpg)(child, number)
            if time.monotonic() - began > LONGEST_SECONDS:
                os.killpg(child, signal.SIGKILL)
                return 124
            time.sleep(0.01)
        return code

    def _said(self) -> str:
        return " ".join((self.folder / "said").read_text().split())[-600:]

    def _clean(self) -> None:
        from zoo.project.doctor import check_leftovers

        for check in check_leftovers(self.work, clean=True):
            if check.name == "leftovers":
                print(check.found)

    def _state(self) -> dict[str, Any]:
        for kind in re.findall(r"removed: (\S+ \S+)", (self.folder / "said").read_text()):
            self.found.leftovers[kind] += 1
        return project_state(self.work)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def main(rounds: int = 400, seed: int = 0) -> int:
    """Do rounds, the scenarios in turn; say what they found, and return an exit status."""
    warm()
    with tempfile.TemporaryDirectory(prefix="zoo-chaos-") as folder:
        chaos = Chaos(Path(folder), seed)
        for done in range(rounds):
            name = list(SCENARIOS)[done % len(SCENARIOS)]
            began, known = time.monotonic(), len(chaos.found.differences)
            chaos.round(name)
            print(
                f"{done + 1:4} of {rounds}  {name:12} {time.monotonic() - began:6.1f} s", flush=True
            )
            for told in chaos.found.differences[known:]:
                print(f"     DIFFERS  {told}", flush=True)
    found = chaos.found
    print(f"{found.rounds} rounds, {sum(found.kills.values())} signals {dict(found.kills)}")
    print(f"left behind, and removed by zoo doctor: {dict(found.leftovers) or 'nothing'}")
    print(f"{len(found.differences)} differences from undisturbed runs")
    return bool(found.differences)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
