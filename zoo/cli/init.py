"""`zoo init`: a study of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli import options


@click.command()
@click.argument("folder", type=options.UserPath())
@click.option("--name", default="", help="The study's name [default: the folder's].")
@click.option(
    "--source",
    default="",
    help="digits, imagefolder, cifar10, cifar100, svhn or fashion_mnist [default: digits].",
)
@click.option(
    "--root",
    type=options.UserPath(exists=True, file_okay=False),
    help="Where the images lie; subsets then get sizes that fit them.",
)
def command(folder: Path, name: str, source: str, root: Path | None) -> None:
    """Begin a study: settings, pipeline and README in a new folder, under git and DVC.

    The study's name keeps it apart from others on a shared server: what it calls vit-small is
    registered as NAME.vit-small.

    \b
    Examples:
      zoo init my-study
      zoo init flowers --source imagefolder --root ~/pictures/flowers
    """
    from zoo.errors import UserError
    from zoo.project.new_study import new_study

    if root and not source:
        raise UserError("--root: expected --source as well, such as --source imagefolder")
    name = new_study(folder, name=name, source=source, root=root)
    click.echo(f"The study {name} is in {folder}. Next:")
    click.echo(f"  cd {folder}")
    click.echo('  git add -A && git commit -m "Begin the study"')
    click.echo("  dvc repro")
