"""`zoo claims`: the papers' statements that a comparison tests."""

from __future__ import annotations

import click

from zoo.cli import options
from zoo.cli.output import print_json
from zoo.errors import unknown


@click.command()
@click.argument("ids", nargs=-1)
@options.as_json
def command(ids: tuple[str, ...], as_json: bool) -> None:
    """List the papers' claims: how each is measured, its threshold, and when it applies.

    IDS are those that a report and `zoo compare` print; without any, all claims are listed.

    \b
    Examples:
      zoo claims
      zoo claims R-reach
      zoo claims --json | jq '.[] | select(.analysis == "cka") | .statement'
    """
    from zoo.claims import CLAIMS
    from zoo.claims.base import cite

    by_id = {claim.id: claim for claim in CLAIMS}
    for name in ids:
        if name not in by_id:
            raise unknown("claim", name, by_id)
    chosen = [by_id[name] for name in ids] or CLAIMS
    texts = ("id", "paper", "figure", "statement", "measured_as", "threshold", "why")
    if as_json:
        keys = (*texts, "applies_when", "analysis")
        known = ({key: getattr(claim, key) for key in keys} for claim in chosen)
        print_json([entry | {"threshold": str(entry["threshold"])} for entry in known])
        return
    for claim in chosen:
        click.echo(f"{claim.id}: {claim.statement} ({cite(claim.paper, claim.figure)})")
        click.echo(f"    measured as  {claim.measured_as}")
        click.echo(f"    supported if {claim.threshold}: {claim.why}")
        click.echo(f"    applies to   {claim.applies_when}; analysis: {claim.analysis}")
