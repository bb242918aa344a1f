"""`zoo list`: what is in the registry."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the registered models: every version, its aliases, data, seed and accuracy.

    \b
    Examples:
      zoo list
      zoo list --json | jq '.[] | select(.test_accuracy > 0.9) | .name'
    """
    import dataclasses

    from zoo.cli.output import print_json, print_table
    from zoo.registry.listing import list_versions
    from zoo.registry.store import open_store, show_uri

    store = open_store()
    rows = list_versions(store)
    if as_json:
        print_json([dataclasses.asdict(r) | {"created": r.created.isoformat()} for r in rows])
        return
    if not rows:
        click.echo(f"No models in {show_uri(store)} yet; `dvc repro` trains and registers some.")
        return
    columns = ("model", "version", "alias", "arch", "data", "seed", "parameters", "test accuracy")
    print_table(
        columns,
        [
            (
                row.name,
                row.version,
                ", ".join(row.aliases),
                row.arch,
                f"{row.source} {row.subset}".strip(),
                row.seed,
                row.parameters,
                None if row.test_accuracy is None else round(row.test_accuracy, 4),
            )
            for row in rows
        ],
    )
