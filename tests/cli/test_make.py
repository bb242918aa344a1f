"""The Makefile in a folder whose path holds a space, with stand-ins for the programs it calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $* by $(command -v python)"
"""
# What `python -m venv .venv` leaves behind is all that set-up needs of it.
PYTHON = """#!/bin/sh
test "$1" != -m || { mkdir -p "$3/bin" && cp tool "$3/bin/python" && cp tool "$3/bin/uv"; }
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my zoo"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).touch()
    for name, text in (("tool", STAND_IN), ("base-python", PYTHON)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What a make that calls this test hands down is not this one's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def made(folder: Path, *arguments: str) -> str:
    done = make(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def failed(folder: Path, *arguments: str) -> str:
    done = make(folder, *arguments)
    assert done.returncode == 2, done.stdout
    return done.stderr


def set_up(folder: Path) -> None:
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "dvc", "pytest", "ruff", "mypy", "mkdocs", "uv"):
        shutil.copy(folder / "tool", folder / ".venv" / "bin" / name)
    (folder / ".venv" / ".ready").touch()


def test_setting_up_keeps_within_the_folder(folder):
    printed = made(folder, "setup", "PYTHON=./base-python")
    assert "uv pip install --quiet --no-deps --editable ." in printed
    assert (folder / ".venv" / ".ready").exists()


@pytest.mark.parametrize("target", ["repro", "study", "test", "chaos", "lint", "docs", "lock"])
def test_a_target_calls_its_programs_by_path_and_they_find_this_python(folder, target):
    set_up(folder)
    for line in made(folder, "-n", target).replace("\\\n", "").splitlines():
        words = [word for word in line.split() if "=" not in word]
        assert words[0].startswith(".venv/bin/") or words[0] == "echo", line
    printed = made(folder, target)
    assert f" by {folder}/.venv/bin/python" in printed


@pytest.mark.parametrize(
    ("lock", "whole"), [("dvc.lock", "schema: '2.0'"), (".dvc/tmp/rwlock", "{}")]
)
def test_an_empty_lock_of_dvc_is_named_with_what_to_do(folder, lock, whole):
    set_up(folder)
    (folder / lock).parent.mkdir(parents=True, exist_ok=True)
    (folder / lock).touch()
    said = failed(folder, "repro")
    assert f"{lock} is empty, as a kill leaves it" in said
    assert f"rm {lock}" in said
    (folder / lock).write_text(whole)
    assert "dvc repro" in made(folder, "repro")
