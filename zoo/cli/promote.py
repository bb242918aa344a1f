"""`zoo promote`: an alias moves to a version."""

from __future__ import annotations

import click


@click.command()
@click.argument("reference")
@click.option(
    "--alias",
    required=True,
    help="Letters, digits, _ and -; `latest` and names like v3 are reserved.",
)
def command(reference: str, alias: str) -> None:
    """Point an alias at a version, and say which version it pointed at before.

    REFERENCE is NAME (its current version), NAME/3 or NAME@alias.

    \b
    Examples:
      zoo promote vit-small/2 --alias paper
      zoo promote vit-small@best --alias production
    """
    from zoo.registry.references import check_alias, parse

    check_alias(alias)
    parse(reference)

    from zoo.registry.annotations import BEST, promote  # imports MLflow: typos are found before
    from zoo.registry.lookup import CURRENT
    from zoo.registry.store import open_store

    version, before = promote(open_store(create=False), reference, alias)
    after = int(version.version)
    was = "new" if before is None else "as before" if before == after else f"before: {before}"
    click.echo(f"{version.name}@{alias} is version {after} ({was})")
    if alias == BEST:
        click.echo(
            f"`zoo register` puts {BEST} back on the version with the highest validation accuracy.",
            err=True,
        )
    elif alias == CURRENT:
        click.echo(
            f"{version.name} alone means version {after} now. `dvc repro` and `zoo register` put "
            f"{CURRENT} back on what the study holds.",
            err=True,
        )
