"""The command line. A command's file has its name; it parses, calls zoo and prints.

Heavy imports stand inside the commands, so that help is instant.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click

from zoo import __version__
from zoo.errors import one_line_errors

COMMANDS = (
    "list", "show", "compare", "probe", "transfer", "register", "ui", "analyses", "claims",
)  # fmt: skip


class LazyGroup(click.Group):
    """A group that imports a command's file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the README."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command; None makes click report an unknown one."""
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"zoo.cli.{name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for a typo, name the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from zoo.errors import unknown

            ctx.fail(str(unknown("command", args[0], COMMANDS)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what a user can mend ends in one line and status 2."""
        # Inside click, which else ends on Ctrl-C and on a closed pipe in its own way, with 1.
        with one_line_errors():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zoo")
@click.option("-v", "--verbose", is_flag=True, help="Say more of what is being done, on stderr.")
def cli(verbose: bool) -> None:
    """How do two vision models see differently?

    Models live in an MLflow registry, trained by `dvc repro`; any two of them are compared with
    `zoo compare A B`. Set MLFLOW_TRACKING_URI to use a shared server.

    \b
    Exit status: 0 done, 1 a defect of zoo, 2 bad input, 130 interrupted.
    """
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("zoo").setLevel(level)


def main() -> None:
    """Run the command line."""
    cli()
