"""The benchmarks run on tiny cases, and keep what they measured with where and when."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from tests.warm import run

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_every_question_has_an_answer(tmp_path):
    out = tmp_path / "results.json"
    done = run(ROOT, "python", "-m", "benchmarks", "--quick", "--out", str(out), check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a ratio of so small a case is far off
    assert out.exists(), done.stderr
    kept = json.loads(out.read_text())
    assert kept["quick"] is True
    assert {"date", "machine", "load", "versions"} <= set(kept)
    told = [row["question"] for row in kept["rows"]]
    for part in (
        "CKA of all",
        "layers",
        "images",
        "models",
        "all analyses",
        "two",
        "step",
        "reading",
        "help",
    ):
        assert any(part in question for question in told), part
    measured = [row for row in kept["rows"] if row["value"] is not None]
    # In a case so small an exponent may be below 0.
    assert all(row["n"] and math.isfinite(row["value"]) for row in measured)
    assert all(question in done.stdout for question in told)


def test_an_unknown_question_is_told(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "--only", "everything"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "valid: similarity, growth" in capsys.readouterr().err
