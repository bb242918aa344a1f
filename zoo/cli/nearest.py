"""`zoo nearest`: which registered models are most like this one?"""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import interval_text, print_json, print_note, print_table
from zoo.cli.progress import progress
from zoo.config import COUNT


@click.command()
@click.argument("reference")
@click.option(
    "--count", type=options.within(COUNT), default=5, show_default=True, help="How many models."
)
@options.query
@options.at
@options.fingerprint_data
@options.fingerprint_images
@options.device
@options.as_json
def command(
    reference: str,
    count: int,
    query: str,
    at: str,
    data: Path | None,
    images: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Name the registered models that are most similar to a model, with intervals.

    \b
    REFERENCE is NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/…, timm:NAME
    or a folder.

    Models are compared by the linear CKA of their fingerprints, so that a new model runs once and
    those that have one do not run (see zoo fingerprint).

    \b
    Examples:
      zoo nearest vit-small
      zoo nearest models/resnet18-small-0 --at features --count 10
    """
    from zoo.device import parse_device
    from zoo.registry.maps import nearest_registered, where
    from zoo.registry.resolve import resolve
    from zoo.registry.store import open_store

    store = open_store(create=False)
    model = resolve(store, reference)
    with progress("nearest") as on_progress:
        found, left_out, seen = nearest_registered(
            store,
            model,
            most=count,
            query=query,
            at=at,
            data=data,
            count=images,
            device=parse_device(device),
            on_progress=on_progress,
        )
    for note in left_out:
        print_note(f"left out: {note}")
    rows = [vars(member) | {"cka": n.cka, "low": n.low, "high": n.high} for member, n in found]
    if as_json:
        print_json(rows)
        return
    click.echo(f"Nearest to {model.label} {where(at)}, on {len(seen):,} images of {seen.source}:\n")
    print_table(
        ("model", "family", "trained on", "seed", "CKA", "95 % interval"),
        [
            (*[row[key] for key in ("name", "family", "data", "seed")], round(row["cka"], 3),
             interval_text(row["low"], row["high"]))
            for row in rows
        ],
        droppable_columns=("family", "seed", "trained on"),
    )  # fmt: skip
