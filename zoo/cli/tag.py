"""`zoo tag`: what people note about a version, to find it by."""

from __future__ import annotations

import click

from zoo.cli.output import print_table
from zoo.errors import UserError


@click.command()
@click.argument("reference")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove a tag; repeatable.")
def command(reference: str, values: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Set and remove tags of a version, and print those it then has.

    REFERENCE is NAME (its current version), NAME/3 or NAME@alias. All tags are checked before
    the first is set.

    \b
    Examples:
      zoo tag vit-small/2 stage=review owner=ada
      zoo tag vit-small/2 --remove stage
      zoo list --filter 'owner=ada'
    """
    from zoo.registry.references import parse

    parse(reference)
    pairs = {}
    for value in values:
        key, sign, text = value.partition("=")
        if not sign:
            raise UserError(f"tag {value!r}: expected KEY=VALUE")
        pairs[key] = text
    if both := sorted(pairs.keys() & set(remove)):
        raise UserError(f"tag {both[0]!r} is both set and removed: expected one of them")

    from zoo.registry.annotations import tag  # imports MLflow: typos are found before
    from zoo.registry.store import open_store

    tags = tag(open_store(create=False), reference, pairs, remove)
    if tags:
        print_table(("tag", "value"), sorted(tags.items()))
    else:
        click.echo(f"{reference} has no tags; zoo tag {reference} KEY=VALUE sets one")
