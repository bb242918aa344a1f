"""`zoo register`: trained models into the registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_table, warn_of_copy
from zoo.cli.progress import progress
from zoo.config import load_params
from zoo.errors import UserError
from zoo.files import find_root

if TYPE_CHECKING:
    from zoo.registry.register import Registered


@click.command()
@click.argument("folders", nargs=-1, type=options.UserPath())
@click.option(
    "--test",
    "test_folder",
    type=options.UserPath(),
    help="The test split to store with the models [default: data/subsets/test].",
)
@options.as_json
def command(folders: tuple[Path, ...], test_folder: Path | None, as_json: bool) -> None:
    """Register trained models; those already registered are left as they are.

    FOLDERS hold model.safetensors and spec.json; the default is all variants of params.yaml,
    whose names then mean the models in models/. Run it after a server was unreachable, after
    `dvc checkout`, or to fill a new registry. Nothing is trained.

    \b
    Examples:
      zoo register
      zoo register models/vit-small-0
    """
    import dataclasses

    from zoo.registry.register import register, register_study
    from zoo.registry.store import open_store

    root, params, chosen = find_root(), None, list(folders)
    if not chosen:
        params = load_params(root / "params.yaml")
        chosen = [root / "models" / variant.key for variant in params.variants]
    missing = [str(folder) for folder in chosen if not (folder / "spec.json").is_file()]
    if missing:
        raise UserError(f"no trained model in {', '.join(missing)}; `dvc repro` trains them")
    usual = root / "data" / "subsets" / "test"
    test = test_folder or (usual if usual.is_dir() else None)
    store, registered = open_store(), []
    warn_of_copy(store)
    with progress("register") as on_progress:
        if params:
            registered = register_study(
                store, params, root / "models", test_folder=test, on_progress=on_progress
            )
        for i, folder in enumerate(folders):
            registered.append(register(store, folder, test_folder=test))
            on_progress(i + 1, len(folders), "models")
    if as_json:
        print_json([dataclasses.asdict(entry) for entry in registered])
        return
    print_table(
        ("model", "version", "digest", ""),
        [(r.name, r.version, r.digest[:12], _outcome(r)) for r in registered],
    )
    if any(entry.experiment for entry in registered):
        click.echo(
            "Experiments remain experiments; `dvc repro` makes what is in models/ the study's own.",
            err=True,
        )


def _outcome(entry: Registered) -> str:
    done = "registered" if entry.created else "restored" if entry.restored else "was there"
    done += ", now current" if entry.moved else ""
    return f"{done} (experiment {entry.experiment})" if entry.experiment else done
