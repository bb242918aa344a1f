"""`zoo analyses`: what a comparison can show."""

from __future__ import annotations

import click

from zoo.cli import options
from zoo.cli.output import print_json


@click.command()
@options.as_json
def command(as_json: bool) -> None:
    """List the analyses: what each shows, what it needs and costs, and its source.

    The cost is CPU time beyond the pass that all analyses share, in forward passes of every network
    on all images. Analyses that make passes of their own (receptive-field, ablation, grad-cam,
    frequency, robustness, stitching, loss-geometry) take at most 128 images for them: compared on
    more images than were measured they cost less, on fewer more.

    \b
    Examples:
      zoo analyses
      zoo compare vit-small resnet18-small --only cka
    """
    from zoo.analyses import ANALYSES, ON_REQUEST, load_analysis, measured_costs

    costs = measured_costs()
    abouts = [load_analysis(name).ABOUT for name in ANALYSES]
    if as_json:
        fields = ("forward_passes", "measured")
        print_json(
            [vars(about) | dict(zip(fields, costs[about.name], strict=True)) for about in abouts]
        )
        return
    for about in abouts:
        click.echo(f"{about.name}: {about.title}")
        click.echo(click.wrap_text(about.shows, 88, "    ", "    "))
        click.echo(f"    needs: {about.needs}; source: {about.source}")
        when = f"; runs only with --only {about.name}" if about.name in ON_REQUEST else ""
        click.echo(f"    cost: {costs[about.name][0]:.2g} forward passes{when}")
    for measured in dict.fromkeys(measured for _, measured in costs.values()):
        of = [name for name, (_, when) in costs.items() if when == measured]
        named = "" if len(of) > len(ANALYSES) / 2 else f" of {', '.join(of)}"
        click.echo(click.wrap_text(f"Cost{named} measured {measured}.", 92))
