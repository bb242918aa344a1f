"""A PostgreSQL of the tests' own, which no other program can reach."""

from __future__ import annotations

import functools
import getpass
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.registry.conftest import session_of

PATIENCE = 60  # seconds


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs; skip without it, but fail in CI."""
    for folder in [
        *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True),
        *os.get_exec_path(),
    ]:
        if (Path(folder) / "initdb").is_file():
            return Path(folder)
    reason = "PostgreSQL is not installed (apt-get install postgresql)"
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def _run(folder: Path, programs: Path, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL's on the cluster in a folder."""
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Output into a file: the database would hold a pipe open.
    with (folder / "log").open("ab") as log:
        done = subprocess.run(
            [*user, str(programs / program), "-D", str(folder / "data"), *arguments],
            cwd="/", stdout=log, stderr=log, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, (folder / "log").read_text()


def restart_database(environment: Mapping[str, str]) -> None:
    """Restart a running cluster as after a power cut: what was not committed is lost."""
    _run(Path(environment["PGHOST"]), binaries(), "pg_ctl", "restart", "-w", "-m", "immediate")


@contextmanager
def running_database() -> Iterator[dict[str, str]]:
    """Run a database cluster that listens on a socket alone; give its commands' environment."""
    programs = binaries()
    # A socket's path holds 107 characters at most, so pytest's folders are too long.
    folder = Path(tempfile.mkdtemp(prefix="zoo-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    run = functools.partial(_run, folder, programs)
    try:
        run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--locale=C")
        run("pg_ctl", "start", "-w", "-o", f"-F -k {folder} -c listen_addresses=''")
        # The page's `sudo -u postgres` becomes a change of the database's user.
        sudo = folder / "sudo"
        sudo.write_text('#!/bin/sh\nexport PGUSER="$2"; shift 2; exec "$@"\n')
        sudo.chmod(0o755)
        yield {
            "PGHOST": str(folder),
            "PATH": f"{folder}:{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "USER": getpass.getuser(),
        }
        pid = int((data / "postmaster.pid").read_text().split()[0])  # another after a restart
        assert session_of(pid) is not None
        run("pg_ctl", "stop", "-m", "immediate")
        # It removes its file, for which pg_ctl waits, a moment before it ends.
        deadline = time.monotonic() + PATIENCE
        while session_of(pid) is not None:
            assert time.monotonic() < deadline, "the database did not end"
            time.sleep(0.05)
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)
