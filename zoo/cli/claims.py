"""`zoo claims`: the papers' statements that a comparison tests."""

from __future__ import annotations

import click

from zoo.cli import options


@click.command()
@options.as_json
def command(as_json: bool) -> None:
    """List the papers' claims: how each is measured, its threshold, and when it applies.

    \b
    Examples:
      zoo claims
      zoo claims --json | jq '.[] | select(.analysis == "cka") | .statement'
    """
    from zoo.claims import CLAIMS
    from zoo.claims.base import cite
    from zoo.cli.output import print_json

    texts = ("id", "paper", "figure", "statement", "measured_as", "threshold", "why")
    if as_json:
        keys = (*texts, "applies_when", "analysis")
        known = ({key: getattr(claim, key) for key in keys} for claim in CLAIMS)
        print_json([entry | {"threshold": str(entry["threshold"])} for entry in known])
        return
    for claim in CLAIMS:
        click.echo(f"{claim.id}: {claim.statement} ({cite(claim.paper, claim.figure)})")
        click.echo(f"    measured as  {claim.measured_as}")
        click.echo(f"    supported if {claim.threshold}: {claim.why}")
        click.echo(f"    applies to   {claim.applies_when}; analysis: {claim.analysis}")
