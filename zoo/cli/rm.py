"""`zoo rm`: a version, or a whole model, out of the registry."""

from __future__ import annotations

import click

from zoo.cli.output import print_table
from zoo.errors import UserError


@click.command()
@click.argument("reference")
@click.option("--all", "whole", is_flag=True, help="Remove the model with all its versions.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(reference: str, whole: bool, yes: bool) -> None:
    """Remove a version from the registry, after showing what refers to it and asking.

    REFERENCE is NAME/3 or NAME@alias; with --all it is NAME. Nothing else is deleted: the
    training run, the files, the test images and the comparisons stay.

    \b
    Examples:
      zoo rm vit-small/2
      zoo rm vit-small --all --yes
    """
    from zoo.registry.removal import plan_removal, remove
    from zoo.registry.store import open_store

    store = open_store(create=False)
    removal = plan_removal(store, reference, whole=whole)
    if removal.dangling:
        print_table(("dangling", f"without {removal.label}"), removal.dangling)
    if not yes and not _agreed(f"Remove {removal.label}?"):
        raise UserError(f"{removal.label} is not removed; --yes does it without asking")
    remove(store, removal)
    click.echo(f"removed {removal.label}")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # nobody is there to answer
        click.echo(err=True)
        return False
