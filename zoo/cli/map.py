"""`zoo map`: which of the registered models see alike?"""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli import options
from zoo.cli.output import (
    command_line,
    interval_text,
    is_quiet,
    print_json,
    print_note,
    print_table,
    print_text,
    warn_of_copy,
)
from zoo.cli.progress import progress


@click.command()
@options.query
@options.at
@options.fingerprint_data
@options.fingerprint_images
@options.device
@click.option("--out", type=options.UserPath(), help="Folder for the map [default: reports/map].")
@options.as_json
def command(
    query: str,
    at: str,
    data: Path | None,
    images: int | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Place all registered models by similarity: a matrix, a map and nearest neighbours.

    Models are compared by the linear CKA of their fingerprints. A version without one is run
    once over the images (see zoo fingerprint); after that, a map takes seconds.

    The map is written into a folder and logged to MLflow.

    \b
    Examples:
      zoo map
      zoo map --filter 'source=cifar10 and alias=current' --at features
      zoo map --data ~/pictures --images 256 --out maps/pictures
    """
    from zoo.device import parse_device
    from zoo.registry.maps import map_registered
    from zoo.registry.store import open_store
    from zoo.registry.ui import comparison_link

    store = open_store(create=False)
    warn_of_copy(store)
    folder = out or store.root / "reports" / "map"
    with progress("map") as on_progress:
        report, run_id = map_registered(
            store,
            folder,
            query=query,
            at=at,
            data=data,
            count=images,
            device=parse_device(device),
            command=command_line(),
            on_progress=on_progress,
        )
    for note in report["left_out"]:
        print_note(f"left out: {note}")
    page = folder / "map.html"
    if as_json:
        print_json(report)
        return
    if is_quiet():
        click.echo(page)
        return
    print_text(report["summary"])
    click.echo("")
    print_table(
        ("model", "trained on", "seed", "nearest", "CKA", "95 % interval"),
        [
            (m["name"], m["data"], m["seed"], near["name"], round(near["cka"], 3),
             interval_text(near["low"], near["high"]))
            for m in report["models"]
            for near in m["nearest"][:1]
        ],
        droppable_columns=("trained on", "seed"),
    )  # fmt: skip
    click.echo(f"\nmap      {page}")
    click.echo(f"MLflow   {comparison_link(store, run_id)}")
