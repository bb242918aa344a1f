"""`zoo list`: what is in the registry."""

from __future__ import annotations

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_table
from zoo.config import COUNT
from zoo.errors import counted

COLUMNS = ("arch", "data", "seed", "parameters", "test accuracy")


@click.command()
@click.option("--filter", "query", default="", help="Only versions that match; see above.")
@click.option(
    "--sort", default="", help="Sort by a field, numbers from the highest [default: by model]."
)
@click.option("--limit", type=options.within(COUNT), help="Print at most this many.")
@options.as_json
def command(query: str, sort: str, limit: int | None, as_json: bool) -> None:
    """List the registered models: every version, its aliases, data, seed and accuracy.

    A filter is one or more comparisons (= != < <= > >=) joined by and/or; `and` binds tighter.
    Fields are model, arch, source, subset, alias, digest, experiment, version, seed, parameters,
    accuracy (on the test split), validation, and each tag that `zoo tag` has set.

    \b
    Examples:
      zoo list
      zoo list --filter 'arch=vit and accuracy>0.9' --sort accuracy --limit 5
      zoo list --filter 'alias=current or stage="in review"'
      zoo list --json | jq '.[] | select(.test_accuracy > 0.9) | .name'
    """
    from zoo.registry.filters import choose
    from zoo.registry.listing import list_versions
    from zoo.registry.store import open_store, show_uri

    store = open_store(create=False)
    rows = list_versions(store)
    chosen = choose(rows, query=query, sort=sort)
    shown = chosen[:limit]
    if as_json:
        print_json([{**vars(row), "created": row.created.isoformat()} for row in shown])
        return
    if not rows:
        click.echo(f"No models in {show_uri(store)} yet; `dvc repro` trains and registers some.")
        return
    if not chosen:
        click.echo(f"None of {counted(len(rows), 'version')} passes the filter.")
        return
    tried = any(row.experiment for row in shown)
    columns = ("model", "version", "alias", *["experiment"] * tried, *COLUMNS)
    print_table(
        columns,
        [
            (
                row.name,
                row.version,
                ", ".join(row.aliases),
                *[row.experiment] * tried,
                row.arch,
                f"{row.source} {row.subset}".strip(),
                row.seed,
                row.parameters,
                None if row.test_accuracy is None else round(row.test_accuracy, 4),
            )
            for row in shown
        ],
        droppable_columns=("parameters", "arch", "seed", "data"),
    )
    if len(shown) < len(chosen):
        click.echo(f"{len(shown):,} of {len(chosen):,} shown", err=True)
