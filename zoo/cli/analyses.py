"""`zoo analyses`: what a comparison can show."""

from __future__ import annotations

import click

from zoo.cli import options


@click.command()
@options.as_json
def command(as_json: bool) -> None:
    """List the analyses: what each shows, what it needs, and its source.

    \b
    Examples:
      zoo analyses
      zoo compare vit-small resnet18-small --only cka
    """
    from zoo.analyses import ANALYSES, load_analysis
    from zoo.cli.output import print_json

    abouts = [load_analysis(name).ABOUT for name in ANALYSES]
    if as_json:
        print_json([vars(about) for about in abouts])
        return
    for about in abouts:
        click.echo(f"{about.name}: {about.title}")
        click.echo(click.wrap_text(about.shows, 88, "    ", "    "))
        click.echo(f"    needs: {about.needs}; source: {about.source}")
