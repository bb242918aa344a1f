"""The command line: each command has a file of its name, which parses, calls zoo and prints.

Heavy imports are inside the commands, so that help is instant.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import keyword
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from zoo import __version__
from zoo.cli.completion import complete_by_name
from zoo.cli.output import PrintableStream, everywhere
from zoo.errors import UserError, one_line_errors, unknown
from zoo.registry import configure_mlflow

COMMANDS = (
    "list", "table", "show", "compare", "report", "audit", "map", "nearest", "fingerprint",
    "probe", "transfer", "register", "import", "pull", "predict", "evaluate", "ui", "analyses",
    "claims", "promote", "tag", "describe", "rm", "verify", "init", "data", "doctor", "completion",
)  # fmt: skip


class LazyGroup(click.Group):
    """A group that imports a command's file when it is needed.

    Every command gets `--quiet` and `--verbose`, and completion of models, analyses and sources.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the README."""
        return [*COMMANDS]  # once zoo.cli.list is imported, `list` is that module

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; None makes click report an unknown one."""
        if name not in COMMANDS:
            return None
        # `zoo import` is in import_.py: a keyword cannot name a module.
        module = f"{name}_" if keyword.iskeyword(name) else name
        command: click.Command = importlib.import_module(f"zoo.cli.{module}").command
        own = {parameter.name for parameter in command.params}
        command.params += [option for option in everywhere() if option.name not in own]
        complete_by_name(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole first sentences, which click would cut."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, found.get_short_help_str(limit=200)) for name, found in commands if found]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for a typo, suggest the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **known: Any) -> click.Context:
        """Read the options before the command's name; a wrong one ends in a one-line error."""
        with one_line_errors(), _usage_in_one_line():
            return super().make_context(*args, **known)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what a user can fix ends in a one-line error and status 2."""
        # Inside click, which would end on Ctrl-C and on a closed pipe with status 1.
        with one_line_errors(), _usage_in_one_line(ctx):
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@contextmanager
def _usage_in_one_line(group: click.Context | None = None) -> Iterator[None]:
    """Report a wrong option or a missing argument as all bad input is reported."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        # Click names no command if an option lacks its argument.
        asked = [group.invoked_subcommand] if group and group.invoked_subcommand else []
        path = error.ctx.command_path if error.ctx else " ".join(["zoo", *asked])
        raise UserError(f"{error.format_message()} (see: {path} --help)") from None


@click.group(
    name="zoo",
    cls=LazyGroup,
    params=everywhere(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="zoo")
def cli() -> None:
    """How do two vision models see differently?

    `dvc repro` trains models and keeps them in an MLflow registry; `zoo compare A B` compares
    them. Set MLFLOW_TRACKING_URI to use a shared server, NO_COLOR to turn colours off.

    \b
    Examples:
      zoo compare vit-small resnet18-small
      zoo doctor
      eval "$(zoo completion bash)"

    \b
    Exit status: 0 done, 1 a bug in zoo, 2 bad input or something else that you can fix (such as
    a server that does not answer), 3 `zoo verify` or `zoo data check` found a problem, 130
    interrupted (run the same command again to continue).
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


def main() -> None:
    """Run the command line; a program that calls it finds its settings unchanged."""
    threshold, streams = gc.get_threshold(), (sys.stdin, sys.stdout, sys.stderr)
    try:
        with one_line_errors():  # Ctrl-C may come before the command is reached
            # What torch, MLflow and a large registry create lives to the end. At Python's threshold
            # of 700 new objects, looking for garbage among them takes a fifth of the imports' time.
            gc.set_threshold(10_000)
            configure_mlflow()
            _fix_streams()
            cli(prog_name="zoo")
    finally:
        gc.set_threshold(*threshold)
        sys.stdin, sys.stdout, sys.stderr = streams
        # When Python ends, all is written: Ctrl-C then would only hide the command's exit status.
        # Not earlier, for the sake of a program that goes on after main().
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _fix_streams() -> None:
    """Escape characters that the output cannot show, and control characters."""
    if sys.stdin is None:  # as in `zoo rm NAME <&-`: nobody answers
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # as in `zoo list >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        if not isinstance(stream, PrintableStream | None):
            setattr(sys, name, PrintableStream(stream))
