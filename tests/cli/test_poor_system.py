"""Few file descriptors, no home folder, little memory: zoo goes on, or says so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ZOO

ROOT = Path(__file__).parent.parent.parent
COMPARE = ["compare", "vit-small", "vit-gap-small", "--only", "accuracy,cka", "--images", "16",
           "--batch-size", "8", "--quiet"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "status", "said"),
    [
        ("ulimit -n 64; unset HOME", 0, ""),
        ("ulimit -v 300000", 2, "Error: not enough memory"),  # in kB; torch alone needs more
    ],
)
def test_a_comparison_where_the_system_gives_little(registered, limit, status, said):
    done = subprocess.run(
        ["sh", "-c", f'{limit}; exec "$0" -c "{ZOO}" "$@"', sys.executable, *COMPARE],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == bool(said)
