"""Completion, as a shell asks for it."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.cli.conftest import ZOO
from zoo.analyses import ANALYSES
from zoo.cli import COMMANDS, cli


def completed(line: str) -> list[str]:
    """Return what is offered for the last word of a line, which may be empty."""
    count = len(line.split(" ")) - 1
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(count), "_ZOO_COMPLETE": "bash_complete"}
    done = CliRunner().invoke(cli, prog_name="zoo", env=asked)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("zoo compare vit-s", ["vit-small", "vit-small@best"]),
        ("zoo compare vit-small vit-g", ["vit-gap-small", "vit-gap-small@best"]),
        ("zoo show vit-small/", ["vit-small/1"]),
        ("zoo probe vit-small@", ["vit-small@best"]),
        ("zoo show s", []),
    ],
)
def test_models_are_completed_from_the_store(registered, line, offered):
    found = completed(line)
    assert [item.removeprefix("plain,") for item in found if item[:3] != "dir"] == offered
    # The shell itself completes folders where no registered model fits.
    assert (found == ["dir,s"]) == (not offered)


def test_commands_options_analyses_and_sources_are_completed():
    assert [i.removeprefix("plain,") for i in completed("zoo ")] == list(COMMANDS)
    assert completed("zoo compare a b --imag") == ["plain,--images"]
    assert completed("zoo compare --only cka,attention-m") == ["plain,cka,attention-maps"]
    assert len(completed("zoo compare --skip ")) == len(ANALYSES)
    assert completed("zoo compare --only cka,accuracy,ck") == []
    assert completed("zoo compare a b --pool t") == ["plain,tokens"]
    assert completed("zoo transfer a --source cifar") == ["plain,cifar10", "plain,cifar100"]


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:9", "sqlite:///damaged.db"])
def test_completion_is_silent_where_there_are_no_names(project, monkeypatch, address):
    (project / "damaged.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert completed("zoo show v") == ["dir,v"]
    assert sorted(p.name for p in project.iterdir()) == ["damaged.db"]


def test_completing_a_model_imports_nothing_heavy(registered, start):
    asked = {"COMP_WORDS": "zoo show vit", "COMP_CWORD": "2", "_ZOO_COMPLETE": "bash_complete"}
    code = (
        "import atexit, sys\n"
        "heavy = {'mlflow', 'torch', 'numpy', 'pandas'}\n"
        "atexit.register(lambda: print(heavy & set(sys.modules)))\n"
        "from zoo.cli import cli; cli(prog_name='zoo')"
    )
    out, error = start("-c", code, **asked).communicate(timeout=60)
    assert error == ""
    assert out.splitlines()[-1] == "set()"
    assert "plain,vit-small" in out


def test_a_version_that_was_removed_is_not_offered(registered, project, monkeypatch):
    database = project / "copy.db"
    database.write_bytes((registered / "mlflow.db").read_bytes())
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal'")
    assert completed("zoo show vit-small/") == ["plain,vit-small/1"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    assert completed("zoo show vit-small/") == ["dir,vit-small/"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_the_script_before_its_completion_was_started(zoo, tmp_path):
    (tmp_path / "script").write_text(zoo("completion", "zsh"))
    asked = f"source {tmp_path}/script; echo $_comps[zoo]"
    done = subprocess.run(["zsh", "-f", "-c", asked], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("_zoo_completion", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(zoo, shell):
    script = zoo("completion", shell)
    assert f"_ZOO_COMPLETE={shell}_complete" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_model_by_the_script(registered, zoo, tmp_path):
    (tmp_path / "zoo").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{ZOO}' \"$@\"\n")
    (tmp_path / "zoo").chmod(0o755)
    (tmp_path / "script").write_text(zoo("completion", "bash"))
    asked = (
        f"source {tmp_path}/script; COMP_WORDS=(zoo compare vit-g); COMP_CWORD=2; "
        f'_zoo_completion {tmp_path}/zoo; echo "${{COMPREPLY[*]}}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vit-gap-small", "vit-gap-small@best"]
