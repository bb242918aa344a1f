"""`zoo audit`: which measure of similarity to trust."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import is_quiet, print_json, print_table, print_text, warn_of_copy
from zoo.cli.progress import progress
from zoo.config import COMPARED_COUNT, Settings

IMAGES = 256


@click.command()
@click.argument("references", nargs=-1)
@click.option(
    "--images",
    type=options.within(COMPARED_COUNT),
    default=IMAGES,
    show_default=True,
    help="How many of the images stored with the models.",
)
@options.batch_size
@options.seed
@options.device
@click.option(
    "--out", type=options.UserPath(), help="Folder for table and figure [default: reports/audit]."
)
@options.as_json
def command(
    references: tuple[str, ...],
    images: int,
    batch_size: int,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Test every measure of similarity on networks for which the answer is known.

    Seeds of one variant must be more alike than networks of two architectures, and two trained
    seeds more than a trained and an untrained one. For each measure: the average precision
    (AUPRC) of ranking pairs by it, beside that of a random order, and d′, how many standard
    deviations the two kinds of pairs lie apart.

    REFERENCES are NAMEs of two or more architectures, each with two or more registered seeds; by
    default all registered ones that have them. The audit is logged to MLflow, and a later `zoo
    compare` of these models says which measures failed it.

    \b
    Examples:
      zoo audit
      zoo audit vit-small resnet18-small --images 359
    """
    from zoo.device import parse_device
    from zoo.experiments.audit import QUESTIONS
    from zoo.registry.audits import audit_registered
    from zoo.registry.store import open_store

    store = open_store(create=False)
    warn_of_copy(store)
    folder = out or store.root / "reports" / "audit"
    with progress("audit") as on_progress:
        report, run = audit_registered(
            store,
            folder,
            references,
            count=images,
            settings=Settings(batch_size=batch_size, seed=seed),
            device=parse_device(device),
            on_progress=on_progress,
        )
    if as_json:
        print_json(report)
    elif is_quiet():
        click.echo(folder / "audit.png")
    else:
        print_text(report["summary"])
        click.echo("")
        print_table(
            ("measure", "tells", "AUPRC", "chance", "d′", "pairs"),
            [
                (
                    row["title"],
                    QUESTIONS[row["question"]],
                    *(round(row[key], 3) for key in ("auprc", "chance")),
                    "" if row["d_prime"] is None else round(row["d_prime"], 2),
                    f"{row['alike']} + {row['apart']}",
                )
                for row in report["audit"]
            ],
        )
        click.echo(f"\nfigure  {folder / 'audit.png'}\nMLflow  run {run} in zoo-audit")
