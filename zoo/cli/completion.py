"""`zoo completion`: the shell completes commands, options, models, analyses and sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

Names = Callable[[str], Iterable[str]]


class _Zsh(ZshComplete):
    """Click's script, which here also works before `compinit` was called."""

    source_template = ZshComplete.source_template.replace(
        "    compdef ",
        "    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n    compdef ",
    )


SHELLS = {"bash": BashComplete, "zsh": _Zsh, "fish": FishComplete}


class Completed(click.types.StringParamType):
    """A text that the shell completes from names, which are looked up when it asks.

    Args:
        names: returns the names for the word so far. If it raises, nothing is completed: a shell
            that waits for a word must not print an error.
        listed: whether the text is a list with commas; then its last name is completed.
    """

    def __init__(self, names: Names, *, listed: bool = False) -> None:
        self.names, self.listed = names, listed

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin with the word; without any, offer folders."""
        before, comma, word = incomplete.rpartition(",") if self.listed else ("", "", incomplete)
        given = before.split(",")
        try:
            offered = [name for name in self.names(word) if name not in given]
            names = [name for name in offered if name.startswith(word)]
        except Exception:
            names = []
        if not names and not self.listed:
            return [CompletionItem(word, type="dir")]
        return [CompletionItem(f"{before}{comma}{name}") for name in names]


def _models(word: str) -> Iterable[str]:
    from zoo.registry.local_database import local_references

    # Versions are offered once a slash is typed: there may be very many.
    return (name for name in local_references() if "/" in word or "/" not in name)


def _analyses(_: str) -> Iterable[str]:
    from zoo.analyses import ANALYSES

    return ANALYSES


def _sources(_: str) -> Iterable[str]:
    from zoo.data.sources import SOURCES

    return SOURCES


# How an argument or an option of this name is completed, in any command.
_BY_NAME = {
    "reference": Completed(_models),
    "references": Completed(_models),
    "--only": Completed(_analyses, listed=True),
    "--skip": Completed(_analyses, listed=True),
    "--source": Completed(_sources),
}


def complete_by_name(command: click.Command) -> None:
    """Give a command's arguments and options the completion of their names."""
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = _BY_NAME.get(parameter.opts[0], click.STRING)


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete zoo's commands, options and models.

    Models come from the project's local store; those on a server are not completed.

    \b
    Examples:
      eval "$(zoo completion bash)"                  in ~/.bashrc
      eval "$(zoo completion zsh)"                   in ~/.zshrc
      zoo completion fish > ~/.config/fish/completions/zoo.fish
    """
    root = click.get_current_context().find_root().command
    click.echo(SHELLS[shell](root, {}, "zoo", "_ZOO_COMPLETE").source())
