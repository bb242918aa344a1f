"""Killed at any moment and run again, every command ends as if nobody had killed it.

`make chaos` does more of the same.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project_state import difference

ROUNDS = 13  # every scenario once
ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="rounds are forks")
def test_what_was_killed_and_run_again_ends_as_if_nobody_had_killed_it():
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", str(ROUNDS)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ROUNDS} rounds" in done.stdout


def test_what_two_states_do_not_share_is_said():
    assert difference([("a", 1), ("a", 1)], [("a", 1), ("b", 2)]) == (
        "lacks [\"('a', 1)\"], has [\"('b', 2)\"]"
    )
