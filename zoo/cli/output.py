"""Printing: tables by rich on a terminal, plain aligned text when piped, JSON for machines."""

from __future__ import annotations

import io
import json
import logging
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

from zoo.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from zoo.registry.store import Store

LONGEST_LINE = 96  # characters of prose
SHORT = 24  # characters that stay on one line


class PrintableStream:
    """Stdout or stderr, with control characters in names, tags and servers' answers escaped.

    Every command prints through it, so that none has to escape by itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = stream
        self.buffer = _PrintableBytes(self)

    def write(self, text: str) -> int:
        """Write text with control characters escaped, except a CR of progress bars at its ends."""
        shown = text.strip("\r")
        start = len(text) - len(text.lstrip("\r"))
        end = text[start + len(shown) :]
        return self.unfiltered.write(f"{text[:start]}{printable(shown)}{end}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


class _PrintableBytes(io.RawIOBase):
    """Where click writes bytes, such as completed names: they are escaped as well."""

    def __init__(self, stream: PrintableStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._stream.write(bytes(content).decode(errors="replace"))
        return len(content)


def terminal(stream: Any) -> Console:
    """Return rich's console on stdout or stderr, to print only what is `printable`."""
    from rich.console import Console

    return Console(file=getattr(stream, "unfiltered", stream))


def is_quiet() -> bool:
    """Say whether `--quiet` was given, before or after the command's name."""
    return _was_given("quiet")


def is_verbose() -> bool:
    """Say whether `--verbose` was given, before or after the command's name."""
    return _was_given("verbose")


def _was_given(option: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and f"zoo.{option}" in context.meta


def _note(context: click.Context, option: click.Parameter, given: bool) -> None:
    # `meta` is shared by the contexts of the group and of its command.
    if given:
        context.meta[f"zoo.{option.name}"] = True
        if option.name == "verbose":
            logging.getLogger("zoo").setLevel(logging.INFO)


def everywhere() -> list[click.Option]:
    """Return the options that zoo and each of its commands take: `--quiet` and `--verbose`."""
    quiet = "No progress; compare, map, probe and transfer print only the path of their result."
    verbose = "Log each step and its time to stderr, with tracebacks of errors."
    return [
        click.Option(flags, is_flag=True, expose_value=False, callback=_note, help=text)
        for flags, text in ((["-q", "--quiet"], quiet), (["-v", "--verbose"], verbose))
    ]


def warn_of_copy(store: Store) -> None:
    """Warn on stderr if this store writes into another project's files."""
    from zoo.registry.store import shared_store_warning

    if told := shared_store_warning(store):
        click.echo(f"Warning: {'; '.join(told)}", err=True)


def print_note(text: str) -> None:
    """Print a note on stderr, beside the result."""
    click.echo(f"Note: {text}", err=True)


def print_json(value: Any) -> None:
    """Print JSON on stdout."""
    # The only control character that JSON leaves; the stream's way to escape it is not JSON's.
    print(json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f"))


def command_line() -> str:
    """Return the command that is running, as a report names it."""
    return shlex.join(["zoo", *sys.argv[1:]])


def interval_text(low: float | None, high: float | None) -> str:
    """Write an interval for a table; nothing if its ends are not known. An int is a count."""
    if low is None or high is None:
        return ""
    return " to ".join(str(end) if isinstance(end, int) else f"{end:.3f}" for end in (low, high))


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values, one per line, without cutting anything."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(f"{name.ljust(width)}  {_in_one_line(value)}")


def print_text(text: str) -> None:
    """Print prose, breaking lines neither within a name such as vit-small nor before a %."""
    width = min(LONGEST_LINE, shutil.get_terminal_size((LONGEST_LINE, 0)).columns)
    joined = text.replace(" %", "\u00a0%")
    print(textwrap.fill(joined, width, break_on_hyphens=False).replace("\u00a0", " "))


def rounded(value: float | None) -> float | None:
    """Round a number as tables print it; None stays None."""
    return None if value is None else round(value, 3)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    droppable_columns: Sequence[str] = (),
) -> None:
    """Print a table, or nothing if it has no rows.

    Columns of numbers are right-aligned, with as many decimals as the longest number. On a narrow
    terminal, `droppable_columns` are left out, the first one first. If the rest is still too wide,
    the table is printed as if piped: nothing is ever cut.
    """
    if not rows:
        return
    table = [
        _Column.of(name, values)
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    if sys.stdout.isatty() and _print_fitting(table, droppable_columns):
        return
    padded = []
    for column in table:
        texts = [column.name, *column.cells]
        width = max(map(len, texts))
        padded.append([t.rjust(width) if column.numeric else t.ljust(width) for t in texts])
    for line in zip(*padded, strict=True):
        print("  ".join(line).rstrip())


@dataclass(frozen=True)
class _Column:
    name: str
    cells: list[str]
    numeric: bool

    @classmethod
    def of(cls, name: str, values: Sequence[object]) -> _Column:
        decimals = max(map(_decimals, values))
        numeric = all(isinstance(value, int | float) or value is None for value in values)
        return cls(name, [_cell(value, decimals) for value in values], numeric)


def _decimals(value: object) -> int:
    return len(str(value).partition(".")[2]) if isinstance(value, float) else 0


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return ""
    return f"{value:.{decimals}f}" if isinstance(value, float) else _in_one_line(value)


def _in_one_line(value: object) -> str:
    """Write a value without line breaks and tabs."""
    return printable(str(value)).replace("\n", "\\n").replace("\t", "\\t")


def _print_fitting(columns: Sequence[_Column], droppable_columns: Sequence[str]) -> bool:
    """Print a table, if it can be made to fit the terminal; say whether it was printed."""
    console = terminal(sys.stdout)
    wide = console.options.update(
        width=sum(len(cell) + 9 for column in columns for cell in [column.name, *column.cells])
    )
    for dropped in range(len(droppable_columns) + 1):
        table = _table([c for c in columns if c.name not in droppable_columns[:dropped]])
        if table.__rich_measure__(console, wide).minimum <= console.width:
            console.print(table)
            if dropped:
                names = ", ".join(droppable_columns[:dropped])
                click.echo(f"Not shown on a terminal this narrow: {names}", err=True)
            return True
    return False


def _table(columns: Sequence[_Column]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        header = column.name.replace(" ", "\n") if column.numeric else column.name
        longest = max(map(len, [*header.split("\n"), *column.cells]))
        # Prose may wrap; names, numbers and digests stay whole.
        prose = any(" " in cell and len(cell) > SHORT for cell in column.cells)
        table.add_column(
            header,
            justify="right" if column.numeric else "left",
            vertical="top",
            no_wrap=not prose,
            min_width=None if prose else longest,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        # Text, not markup: a name from the registry may hold brackets.
        table.add_row(*map(Text, row))
    return table
