"""`zoo report`: draw a saved comparison again."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.progress import progress


@click.command()
@click.argument("folder", type=options.UserPath(exists=True, file_okay=False))
def command(folder: Path) -> None:
    """Draw the figures and the page of a saved comparison again, from its results.nc.

    FOLDER is what `zoo compare` wrote. No network runs and nothing is fetched; the claims are
    tested again on the saved numbers.

    \b
    Examples:
      zoo report reports/vit-small__resnet18-small
    """
    from zoo.comparison import PAGE, redraw
    from zoo.report.figures import DRAWN

    with progress("report", (DRAWN,)) as on_progress:
        redraw(folder, on_progress)
    click.echo(folder / PAGE)
