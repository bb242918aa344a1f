"""Tables and lists, on a terminal and piped."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from zoo.cli import cli
from zoo.cli.output import print_table, print_text

ROOT = Path(__file__).parent.parent.parent
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


def test_plain_tables_are_aligned(capsys):
    print_table(("name", "n"), [("a", 1), ("longer", 200)])
    assert capsys.readouterr().out == "name      n\na         1\nlonger  200\n"


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_no_name_number_or_digest_is_cut_on_a_narrow_terminal(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    columns = ("model", "version", "parameters", "data", "digest", "test accuracy")
    row = ("resnet18-medium-on-cifar10", 12, 11173962, "digits medium", "9f" * 6, 0.9749)
    print_table(columns, [row, row], droppable_columns=("parameters", "data"))
    out, err = capsys.readouterr()
    lines = click.unstyle(out).splitlines()
    assert "model" in out
    for kept in ("resnet18-medium-on-cifar10", "12", "9f" * 6, "0.9749"):
        assert sum(kept in line for line in lines) == 2
    if width > 30:
        assert max(map(len, lines)) <= width
    dropped = {30: "", 60: "parameters, data", 80: "parameters", 200: ""}[width]
    assert err == (f"Not shown on a terminal this narrow: {dropped}\n" if dropped else "")


def test_a_table_without_rows_prints_nothing(capsys):
    print_table(("name", "n"), [])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", ["60", "80"])
def test_the_list_and_a_model_are_whole_on_a_narrow_terminal(zoo, registered, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    names = [line.split()[0] for line in click.unstyle(zoo("list")).splitlines()[-2:]]
    assert names == ["vit-gap-small", "vit-small"]
    digest = json.loads(zoo("show", "vit-small", "--json"))["digest"]
    shown = zoo("show", "vit-small").splitlines()
    assert shown[0].split() == ["model", "vit-small"]
    assert sum(line.endswith(f"  {digest}") for line in shown) == 1


SLOW = "accuracy,loss-geometry"  # which needs more than 16 images


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (
            ["compare", "vit-small", "vit-gap-small", "--images", "5000", "--only", "accuracy"],
            "Note: --images 5,000: there are 359; all were compared",
        ),
        (
            ["compare", "vit-small", "vit-gap-small", "--images", "16", "--only", SLOW],
            "Note: loss-geometry is slow: about 63 times a pass of these models over 359 images; "
            "the progress says how long is left",
        ),
        (
            ["predict", "vit-small", "a.png", "--top", "99"],
            "Note: --top 99: there are 10 classes; all are named",
        ),
    ],
)
def test_what_a_user_may_not_expect_is_told_on_stderr(registered, tmp_path, arguments, note):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    given = [str(tmp_path / "a.png") if word == "a.png" else word for word in arguments]
    done = CliRunner().invoke(cli, [*given, "--json"])
    assert done.exit_code == 0
    assert note in done.stderr.splitlines()
    json.loads(done.stdout)


def test_a_report_that_takes_anothers_place_is_told(registered, tmp_path):
    def compare(only):
        out = str(tmp_path / "report")
        asked = ["compare", "vit-small", "vit-gap-small", "--only", only, "--out", out]
        done = CliRunner().invoke(cli, [*asked, "--images", "16"])
        assert done.exit_code == 0
        return done.stderr

    assert "held the report of" not in compare("accuracy")
    assert "held the report of" not in compare("accuracy")
    assert "held the report of `zoo" in compare("cka")
    assert "that command brings it back" in " ".join(compare("accuracy").split())


def test_numbers_of_a_column_have_the_same_decimals(capsys):
    print_table(("a", "b", "n"), [("x", 1.0, 3), ("y", None, 4), ("z", 0.894, 12)])
    assert capsys.readouterr().out.splitlines() == [
        "a      b   n",
        "x  1.000   3",
        "y          4",
        "z  0.894  12",
    ]


@pytest.mark.parametrize(("columns", "widest"), [("300", 96), ("30", 30)])
def test_prose_breaks_neither_within_a_name_nor_before_a_percent_sign(
    monkeypatch, capsys, columns, widest
):
    monkeypatch.setenv("COLUMNS", columns)
    text = "resnet18-small classifies 89.4 % of the images and vit-small 56.5 % of them. " * 9
    print_text(text)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines) == text.strip()
    assert widest - 15 < max(map(len, lines)) <= widest
    assert not any(line.endswith("-") or line.startswith("%") for line in lines)


def on_a_terminal(command: list[str], **environment: str) -> str:
    """Run a command with a terminal as its output and return what it wrote there."""
    inside, outside = pty.openpty()
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    env = {**plain, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(command, stdout=outside, stderr=outside, env=env)
    os.close(outside)
    written = b""
    with contextlib.suppress(OSError):  # a terminal that was closed raises on Linux
        while chunk := os.read(inside, 1 << 16):
            written += chunk
    os.close(inside)
    assert process.wait() == 0, written
    return written.decode()


def test_no_color_is_honoured_by_tables_and_bars(project):
    code = (
        "import time, zoo.cli.progress as p; from zoo.cli.output import print_table\n"
        "print_table(('name', 'n'), [('a', 1)])\n"
        "with p.progress('job') as report:\n"
        "    for i in range(8): report(i, 10, 'images'); time.sleep(0.1)\n"
    )
    coloured = on_a_terminal([sys.executable, "-c", code])
    assert COLOUR.search(coloured)
    plain = on_a_terminal([sys.executable, "-c", code], NO_COLOR="1")
    assert not COLOUR.search(plain)
    assert "of 10 images" in plain
