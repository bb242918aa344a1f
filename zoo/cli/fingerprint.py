"""`zoo fingerprint`: run models once, so that they need not run for a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_note, print_table, warn_of_copy
from zoo.cli.progress import progress
from zoo.errors import UserError, counted


@click.command()
@click.argument("references", nargs=-1)
@options.query
@options.fingerprint_data
@options.fingerprint_images
@options.device
@click.option("--on", "address", default="", help="ray (this machine's cores) or ray://HOST:PORT.")
@options.as_json
def command(
    references: tuple[str, ...],
    query: str,
    data: Path | None,
    images: int | None,
    device: str,
    address: str,
    as_json: bool,
) -> None:
    """Make the fingerprints of models: what a map needs of their layers, kept with each version.

    \b
    REFERENCES are NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/…, timm:NAME
    or a folder [default: every registered version that --filter lets through].

    A fingerprint holds the Gram matrices of a model's layers at five depths, of its features and
    of its logits, on one set of images. Existing fingerprints are not made again, so the models can
    be divided among several processes or machines. With --on, Ray gives one task per model to its
    workers.

    \b
    Examples:
      zoo fingerprint
      zoo fingerprint vit-small/1 vit-small/2 --device cuda
      zoo fingerprint --filter source=cifar10 --data data/subsets/test
      zoo fingerprint --on ray://head-node:10001
    """
    from zoo.device import parse_device
    from zoo.registry.fingerprints import as_model, chosen_versions, keep_all, named_images
    from zoo.registry.on_ray import check_address, keep_all_on_ray
    from zoo.registry.resolve import resolve
    from zoo.registry.store import open_store
    from zoo.study.results import name_varying

    if references and query:
        raise UserError("expected models or --filter, got both: name the models, or choose them")
    where = check_address(address) if address else ""
    store = open_store(create=False)
    warn_of_copy(store)
    models = [resolve(store, reference) for reference in references]
    models = models or [as_model(row) for row in chosen_versions(store, query)]
    seen = named_images(store, models, data, images)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    notes: list[str] = []
    with progress("fingerprint") as on_progress:
        if where:
            every = keep_all_on_ray(
                store, models, seen, address=where, device=device, on_progress=on_progress
            )
        else:
            every = keep_all(
                store, models, seen, device=parse_device(device), on_progress=on_progress
            )
        for model, kept in zip(models, every, strict=True):
            if isinstance(kept, str):
                failed.append(kept)
                continue
            notes += name_varying(
                model.label, deterministic=kept.deterministic, mixes_images=kept.mixes_images
            )
            rows.append(
                {
                    "model": model.label, "family": kept.family, "made": kept.made,
                    "bytes": kept.path.stat().st_size, "problems": kept.problems,
                    "file": str(kept.path),
                }
            )  # fmt: skip
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("model", "family", "fingerprint", "bytes", "without"),
            [
                (row["model"], row["family"], "made" if row["made"] else "was there",
                 row["bytes"], "; ".join(f"{at} {why}" for at, why in row["problems"].items()))
                for row in rows
            ],
            droppable_columns=("family", "bytes"),
        )  # fmt: skip
        click.echo(
            f"{counted(len(seen), 'image')} of {seen.source}, digest {seen.dataset_digest[:12]}"
        )
    for note in notes:
        print_note(note)
    if failed:
        raise UserError(
            f"{counted(len(failed), 'model')} without a fingerprint: {'; '.join(failed)}"
        )
