"""A project's store and the names in it, read with SQLite alone, in a few milliseconds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zoo.files import find_root

DATABASE = "mlflow.db"


def store_address(root: Path) -> str:
    """Return where a project keeps its models: `MLFLOW_TRACKING_URI`, or its own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / DATABASE}"


def database_path(address: str) -> Path | None:
    """Return the file of an SQLite address, and None for any other."""
    if not address.startswith("sqlite:///"):
        return None
    # Not `resolve`, which raises on a link that leads back to itself.
    return Path(os.path.realpath(address.removeprefix("sqlite:///").split("?")[0]))


def folders_elsewhere(database: Path, experiments: Iterable[str]) -> Iterator[Path]:
    """Yield the folders of experiments' files that are not beside the database.

    MLflow keeps absolute addresses. In a project that was moved or copied they name the old place,
    where MLflow would find nothing, and would create the old folder when it writes.
    """
    query = "SELECT name, artifact_location FROM experiments"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            addresses = dict(connection.execute(query))
    except sqlite3.Error:
        return  # MLflow will say what is wrong with it
    for name in experiments:
        parts = urlsplit(addresses.get(name) or "")
        # The experiment's own folder is created with its first file.
        folder = Path(unquote(parts.path)).parent
        if parts.scheme == "file" and not folder.is_relative_to(database.parent):
            yield folder


def local_references() -> list[str]:
    """Return the references in the project's local store, for completion.

    It reads MLflow's tables directly and read-only: importing MLflow takes seconds.

    Returns:
        `NAME` and `NAME@alias` of every model, then `NAME/3` of every version; nothing without a
        local store.
    """
    path = database_path(store_address(find_root().resolve()))
    if path is None or not path.is_file():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as database:
        names = database.execute("SELECT name FROM registered_models ORDER BY name")
        found = [str(name) for (name,) in names]
        aliases = "SELECT name, alias FROM registered_model_aliases ORDER BY name, alias"
        found += [f"{name}@{alias}" for name, alias in database.execute(aliases)]
        versions = (
            "SELECT name, version FROM model_versions "
            "WHERE current_stage != 'Deleted_Internal' ORDER BY name, version"  # by `zoo rm`
        )
        return found + [f"{name}/{version}" for name, version in database.execute(versions)]
