"""Write into the pages what the code says: commands, analyses and claims.

`python docs/generate.py` renews what stands between `<!-- zoo: claims -->` and `<!-- /zoo -->`;
a test holds the pages to it. `Examples` shows the doctests of docstrings as code in the Python
reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import click
import griffe

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- zoo: (\w+) -->\n).*?(<!-- /zoo -->)", re.DOTALL)
DOCTEST = re.compile(r"^>>> .*", re.MULTILINE | re.DOTALL)


def filled(markdown: str) -> str:
    """Return a page with its parts as the code has them."""
    return PART.sub(
        lambda part: f"{part[1]}\n" + "\n".join(PARTS[part[2]]()).strip() + f"\n\n{part[3]}",
        markdown,
    )


class Examples(griffe.Extension):
    """Puts the doctest that ends a docstring into a section of its own (called by mkdocstrings)."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Add the section's title above the first prompt."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(
                lambda test: f"Examples:\n{indent(test[0], '    ')}", obj.docstring.value
            )


def commands() -> Iterator[str]:
    """Yield a section a command: what `zoo COMMAND --help` prints."""
    from zoo.cli import cli

    # With zoo's own settings: click keeps the help option that it first makes of a command.
    settings = {**cli.context_settings, "max_content_width": 88}
    yield from _command(cli, click.Context(cli, info_name="zoo", **settings))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _command(child, click.Context(child, context, info_name=name))


def analyses() -> Iterator[str]:
    """Yield a table of the analyses, each with a link to its page."""
    from zoo.analyses import ANALYSES, load_analysis

    yield "| analysis | shows | needs | source |\n|---|---|---|---|"
    for name in ANALYSES:
        about = load_analysis(name).ABOUT
        yield f"| [{name}]({name}.md) | {about.shows} | {about.needs} | {about.source} |"


def claims() -> Iterator[str]:
    """Yield a section a claim: statement, measure, threshold and when it applies."""
    from zoo.claims import CLAIMS
    from zoo.claims.base import cite

    for claim in CLAIMS:
        yield f"### {claim.id}\n\n**{claim.statement}.** {cite(claim.paper, claim.figure)}.\n"
        yield f"- measured as: {claim.measured_as}"
        yield f"- supported if: {claim.threshold}; {claim.why}"
        yield f"- applies to: {claim.applies_when}"
        yield f"- analysis: [{claim.analysis}](analyses/{claim.analysis}.md)\n"


PARTS = {"analyses": analyses, "claims": claims, "commands": commands}


if __name__ == "__main__":
    for page in sorted(DOCS.rglob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
