"""`zoo audit`: which measure of similarity to trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.config import COMPARED_COUNT

IMAGES = 256


@click.command()
@click.argument("references", nargs=-1)
@click.option(
    "--images",
    type=options.within(COMPARED_COUNT),
    default=IMAGES,
    show_default=True,
    help="How many images, of those that travel with the models.",
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
    batch_size: int | None,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Test every measure of similarity on networks of which the answer is known.

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
    import numpy as np

    from zoo.cli.output import is_quiet, print_json, print_table, print_text
    from zoo.cli.progress import progress
    from zoo.config import Settings
    from zoo.device import parse_device
    from zoo.experiments.audit import QUESTIONS, as_rows, audit_measures, describe, failures
    from zoo.experiments.audit_report import FOLDER, draw
    from zoo.figures.saving import save_figure
    from zoo.files import write_json
    from zoo.files.folders import check_replaceable, replacing_folder
    from zoo.registry.audits import log_audit
    from zoo.registry.compare import labelled_images
    from zoo.registry.resolve import load_resolved, resolve
    from zoo.registry.seeds import other_seeds
    from zoo.registry.store import open_store

    store = open_store(create=False)
    names = references or _with_seeds(store)
    first = [resolve(store, name) for name in names]
    others = other_seeds(store, first)
    variants = [[m, *(s for i, s in others if i == v)] for v, m in enumerate(first)]
    folder = out or store.root / "reports" / "audit"
    check_replaceable(folder, FOLDER)
    device = parse_device(device)
    loaded = [[load_resolved(store, m, name=m.name) for m in of] for of in variants]
    split, _ = labelled_images(store, first, None, images)
    with progress("audit") as on_progress:
        found = audit_measures(
            loaded,
            np.stack([split.read(i) for i in range(len(split))]),
            settings=Settings(batch_size=batch_size or Settings.batch_size, seed=seed),
            device=device,
            on_progress=on_progress,
        )
    models = [model for of in variants for model in of]
    report: dict[str, Any] = {
        "models": [{"name": m.name, "uri": m.uri, "digest": m.digest} for m in models],
        "images": len(split.labels),
        "seed": seed,
        "summary": describe(found),
        "failed": failures(found),
        "audit": as_rows(found),
    }
    with replacing_folder(folder, FOLDER) as new:
        write_json(new / "audit.json", report)
        save_figure(draw(found), new, "audit")
    run = log_audit(store, folder, report, models)
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


def _with_seeds(store: Any) -> list[str]:
    """Return the names of all registered models that have two or more seeds."""
    from zoo.errors import UserError
    from zoo.registry.listing import list_versions

    seeds: dict[str, set[int | None]] = {}
    for row in list_versions(store):
        if not row.experiment:
            seeds.setdefault(row.name, set()).add(row.seed)
    found = [name for name, of in seeds.items() if len(of) > 1]
    if not found:
        raise UserError("no registered model has two or more seeds: train them (study.seeds)")
    return found
