"""`zoo init`: a study of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from zoo.cli import options
from zoo.errors import UserError


@click.command()
@click.argument("folder", type=options.UserPath())
@click.option("--name", default="", help="The study's name [default: the folder's].")
@click.option(
    "--source",
    default="",
    help="digits, imagefolder, webdataset, cifar10, cifar100, svhn or fashion_mnist "
    "[default: digits].",
)
@click.option(
    "--root",
    type=options.UserPath(exists=True, file_okay=False),
    help="Folder of the images; the subsets' sizes are chosen to fit them.",
)
@click.option(
    "--renew",
    is_flag=True,
    help="Give an older study the pipeline of the installed zoo.",
)
def command(folder: Path, name: str, source: str, root: Path | None, renew: bool) -> None:
    """Begin a study: settings, pipeline and README in a new folder, under git and DVC.

    The study's name keeps it apart from others on a shared server: what it calls vit-small is
    registered as NAME.vit-small.

    After an upgrade of zoo, `zoo doctor` says whether a study's dvc.yaml and pipelines/ are older;
    --renew replaces them, and nothing else.

    \b
    Examples:
      zoo init my-study
      zoo init flowers --source imagefolder --root ~/pictures/flowers
      zoo init . --renew
    """
    from zoo.project.new_study import new_study
    from zoo.project.renewal import renew_study

    if renew:
        if name or source or root:
            raise UserError("--renew takes no --name, --source or --root: params.yaml stays")
        changed = renew_study(folder)
        click.echo(f"renewed: {', '.join(changed)}" if changed else "the pipeline is up to date")
        return
    if root and not source:
        raise UserError("--root: expected --source as well, such as --source imagefolder")
    name = new_study(folder, name=name, source=source, root=root)
    click.echo(f"The study {name} is in {folder}. Next:")
    click.echo(f"  cd {shlex.quote(str(folder))}")
    click.echo('  git add -A && git commit -m "Begin the study"')
    click.echo("  dvc repro")
