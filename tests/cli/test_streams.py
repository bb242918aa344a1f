"""Outputs that are closed, or that cannot show every sign."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_a_sign_that_the_output_cannot_show_is_replaced(start):
    code = "import zoo.cli.claims as c; from zoo.cli import main\n"
    code += "c.command.callback = lambda **_: print('16 × 16, τ'); main()"
    process = start("-c", code, "claims", PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    process.stdout.reconfigure(encoding="cp1252")
    assert process.communicate(timeout=60) == ("16 × 16, ?\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_output_is_no_defect(project, closed):
    number = {"stdout": 1, "stderr": 2}[closed]
    call = f'"$0" -c "from zoo.cli import main; main()" "$@" {number}>&-'
    for arguments, status in ((["analyses"], 0), (["nothing"], 2)):
        done = subprocess.run(
            ["sh", "-c", call, sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert not (done.stdout and status), "what is said on stderr went to stdout"


def test_nobody_answers_where_the_input_is_closed(project):
    code = "import click; from zoo.cli import _fix_streams; _fix_streams(); click.confirm('?')"
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" <&-', sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.strip().endswith("Abort"), done.stderr
