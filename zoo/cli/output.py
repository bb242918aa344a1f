"""Printing: tables by rich on a terminal, plain aligned text when piped, JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

QUIET, VERBOSE = "zoo.quiet", "zoo.verbose"


def is_quiet() -> bool:
    """Say whether `--quiet` was given, before or after the command's name."""
    return _was_given(QUIET)


def is_verbose() -> bool:
    """Say whether `--verbose` was given, before or after the command's name."""
    return _was_given(VERBOSE)


def _was_given(key: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and key in context.meta


def _note(context: click.Context, option: click.Parameter, given: bool) -> None:
    # `meta` is shared by the contexts of the group and of its command.
    if given:
        context.meta[f"zoo.{option.name}"] = True
        if option.name == "verbose":
            logging.getLogger("zoo").setLevel(logging.INFO)


def everywhere() -> list[click.Option]:
    """Return the options that zoo and each of its commands take: `--quiet` and `--verbose`."""
    quiet = "No progress; compare, probe and transfer print only the path of their result."
    verbose = "Say on stderr what is done and how long it takes, with tracebacks of errors."
    return [
        click.Option(flags, is_flag=True, expose_value=False, callback=_note, help=text)
        for flags, text in ((["-q", "--quiet"], quiet), (["-v", "--verbose"], verbose))
    ]


def print_json(value: Any) -> None:
    """Print JSON on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns that hold only numbers are right-aligned."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    right = [
        all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name, numeric in zip(columns, right, strict=True):
            table.add_column(name, justify="right" if numeric else "left")
        for row in cells:
            # Text, not markup: a name from the registry may hold brackets.
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ]
        print("  ".join(padded).rstrip())
