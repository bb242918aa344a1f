"""`zoo describe`: the text on a version's page."""

from __future__ import annotations

import click

from zoo.errors import UserError, counted


@click.command()
@click.argument("reference")
@click.argument("text", required=False)
@click.option("--clear", is_flag=True, help="Remove the description.")
def command(reference: str, text: str | None, clear: bool) -> None:
    """Show a version's description, or set it (Markdown).

    REFERENCE is NAME (its current version), NAME/3 or NAME@alias. At first the description is
    the model card, which also stays in README.md among the version's files.

    \b
    Examples:
      zoo describe vit-small
      zoo describe vit-small/2 "Trained for the *March* report."
      zoo describe vit-small/2 "$(cat notes.md)"
      zoo describe vit-small/2 --clear
    """
    from zoo.registry.annotations import describe
    from zoo.registry.store import open_store

    if clear and text is not None:
        raise UserError("--clear leaves no description: expected no text beside it")
    if text is not None and not text.strip():
        raise UserError("expected a text, got an empty one; --clear removes the description")
    if clear:
        text = ""
    described = describe(open_store(create=False), reference, text)
    if text is not None:
        now = f"a description of {counted(len(text), 'character')}" if text else "no description"
        click.echo(f"{reference} now has {now}")
    else:
        print(described)  # click would remove colours from what does not go to a terminal
