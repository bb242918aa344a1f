"""No control character reaches a terminal, whatever names, tags and servers hold."""

import contextlib
import io
import json
import sys
import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.cli.output import (
    PrintableStream,
    print_json,
    print_pairs,
    print_table,
    print_text,
)
from zoo.cli.progress import progress
from zoo.errors import UserError, one_line_errors, printable, shorten_message

EVIL = "k\x1b]0;x\x07\x9b31m\u202egnp.exe\u2066\x7f\x00\ud800\r"
# What moves the cursor or the line's direction is of these categories, or one of these.
MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
texts = st.text() | st.text(
    alphabet="ab \n\t\r\x1b\x07\x9b\x85\u2028\u202e\u2069\ud800[31m", max_size=40
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    texts | numbers | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=9,
)


def is_clean(text: str) -> bool:
    """Say whether a text is what a terminal shows as it is; an oracle by Unicode's categories."""
    return not any(
        (unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} and c not in "\n\t") or c in MARKS
        for c in text
    )


@contextlib.contextmanager
def streams():
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = PrintableStream(out), PrintableStream(err)
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = before


@given(texts)
def test_text_without_control_characters_is_left_as_it_is(text):
    assert is_clean(printable(text))
    assert printable(text) == text or not is_clean(text)
    assert printable(printable(text)) == printable(text)


@given(texts)
def test_every_way_to_print_is_filtered(text):
    with streams() as (out, err):
        print_pairs({"tag": text, "n": 1})
        print_table(["name", "n"], [(text, 1), ("b", 2)])
        assert out.getvalue().count("\n") == 5  # no value begins a line of its own
        print_text(f"a {text}")
        click.echo(f"a {text} b")
        click.echo(f"Note: {text} b", err=True)
        click.echo(f"a {text} b".encode(errors="replace"))
        print(f"a {text} b", file=sys.stderr)
        with contextlib.suppress(SystemExit), one_line_errors():
            raise UserError(f"no model {text}")
    assert is_clean(out.getvalue())
    assert is_clean(err.getvalue())


@given(values)
def test_json_stays_json(value):
    with streams() as (out, _):
        print_json(value)
    assert is_clean(out.getvalue())
    assert json.loads(out.getvalue()) == value


@given(texts.filter(str.strip))
def test_an_error_is_one_line_under_a_thousand_characters(text):
    with streams() as (_, err), contextlib.suppress(SystemExit), one_line_errors():
        raise UserError(f"expected a name, got {text * 300!r} and {text * 90}: give one")
    line = err.getvalue()
    assert line.startswith("Error: expected a name, got ")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert len(line) < 1000
    assert is_clean(line)


@pytest.mark.parametrize("length", [10, 299, 300, 301, 100_000])
def test_the_middle_of_a_long_value_is_cut_out(length):
    value = "".join(chr(97 + i % 26) for i in range(length))
    message = shorten_message(f"expected a number, got {value}: set it to 1")
    assert message.startswith(f"expected a number, got {value[:100]}")
    assert message.endswith(f"{value[-100:]}: set it to 1")
    assert (value in message) == ("…" not in message) == (length < 300)
    assert len(message) < 350


def test_an_error_of_many_short_words_keeps_its_remedy():
    message = str(UserError(f"unknown name; valid: {', '.join(['abc'] * 5000)}; see zoo list"))
    assert message.startswith("unknown name; valid: abc, ")
    assert message.endswith("abc; see zoo list")
    assert len(message) <= 900


def test_a_bar_of_a_download_still_returns_to_the_lines_beginning():
    with streams() as (out, _):
        sys.stdout.write("\r 50%|#####     |\r")
        sys.stdout.write("\r")
        sys.stdout.write("a\rb")
    assert out.getvalue() == "\r 50%|#####     |\r\ra\\rb"


def test_tags_aliases_and_errors_of_a_registry_do_not_reach_the_terminal(zoo, kept):
    zoo("tag", "vit-small", f"stage={EVIL[:-2]}")
    for arguments in (["show", "vit-small"], ["tag", "vit-small"], ["list"]):
        assert is_clean(zoo(*arguments)), arguments
    assert r"k\x1b]0;x\x07\x9b31m\u202egnp.exe" in zoo("show", "vit-small")
    assert json.loads(zoo("show", "vit-small", "--json"))["tags"]["stage"] == EVIL[:-2]
    for arguments in (["show", EVIL], ["list", "--filter", EVIL], [EVIL], ["show", f"--{EVIL}"]):
        said = zoo(*arguments, status=2)
        assert is_clean(said), arguments
        assert said.count("\n") == 1


def test_a_job_named_so_is_shown_as_text(monkeypatch):
    with streams() as (_, err):
        monkeypatch.setattr(err, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
        with progress(EVIL[:-2]) as report:
            report(1, 2, "images")
    assert "\x07" not in err.getvalue()
