"""`zoo verify`: is everything that the registry promises still there and intact?"""

from __future__ import annotations

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_table
from zoo.cli.progress import progress
from zoo.errors import counted

NOT_WELL = 3


@click.command()
@click.argument("references", nargs=-1)
@options.as_json
def command(references: tuple[str, ...], as_json: bool) -> None:
    """Check every version: its files, their digest, its lineage, and that it loads.

    REFERENCES are NAME (its current version), NAME/3 or NAME@alias. Without any, all versions
    are checked, and whether every variant of params.yaml is registered and what its name means.
    Every byte is read again, even from a server. Nothing is changed.

    \b
    missing   files of a version, or a variant of params.yaml, are not there
    orphaned  the run, its training data or the test images cannot be found
    damaged   files or tags are not the ones that were registered, or do not load
    untrusted files are whole, but building it runs code that you have not trusted
    differs   models/ holds an experiment's models, or others than their names mean

    \b
    Exit status: 0 all is well, 3 a problem was found (2 bad input, 1 a bug in zoo).

    \b
    Examples:
      zoo verify
      zoo verify vit-small@best --json
    """
    from zoo.registry.store import open_store
    from zoo.registry.verify import verify

    store = open_store(create=False)
    with progress("verify") as on_progress:
        done = verify(store, references, on_progress=on_progress)
    findings = [vars(finding) for finding in done.findings]
    if as_json:
        print_json({**vars(done), "findings": findings, "well": not findings})
    else:
        if findings:
            print_table(
                ("finding", "what", "why"), [tuple(finding.values()) for finding in findings]
            )
        result = f"{len(findings):,} found" if findings else "all is well"
        click.echo(
            f"{counted(done.versions, 'version')}, {counted(done.images, 'test split')} and "
            f"{counted(done.outputs, 'DVC output')} checked: {result}"
        )
    if findings:
        click.get_current_context().exit(NOT_WELL)
