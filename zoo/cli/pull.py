"""`zoo pull`: copy a model out of the registry."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli import options


@click.command()
@click.argument("reference")
@click.argument("folder", type=options.UserPath())
def command(reference: str, folder: Path) -> None:
    """Write a registered model into a folder: weights, spec and model card.

    \b
    REFERENCE is NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/… or a folder.

    The folder loads with `zoo.load("./FOLDER")`, even without an MLflow server. A model already
    in it is replaced; a folder with anything else in it is left alone.

    \b
    Examples:
      zoo pull vit-small@best ./vit-small
      zoo pull resnet18-full/2 /media/stick/resnet18
    """
    from zoo.registry.resolve import pull, resolve

    model = resolve(None, reference)
    pull(model, folder)
    click.echo(f"{model.uri} is in {folder} (sha256 {model.digest[:12]})")
