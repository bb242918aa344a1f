"""Single files out of MLflow's artifacts: asked for by name, never by what a listing says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException

from zoo.errors import UserError
from zoo.registry.faults import is_away, redact
from zoo.registry.store import Store


def local_folder(uri: str) -> Path | None:
    """Return the folder that an artifact address stands for on this machine; None elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    return Path(uri) if uri.startswith("/") else None


def fetch_file(store: Store | None, folder: str, name: str, target: str | Path) -> Path:
    """Return a file of an artifact folder: itself where it is on this machine, else a copy.

    Args:
        store: serves the artifacts; None where they are on this machine.
        folder: address of the artifact folder.
        name: path inside it, with forward slashes.
        target: folder for the copy.

    Raises:
        UserError: there is no such file, or it leads out of its folder.
    """
    here = local_folder(folder)
    if here is not None:
        return _inside(here, name)
    if store is None:
        raise ValueError(f"expected a store to fetch {folder} from")
    try:
        path = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"{folder}/{name}", dst_path=str(target), tracking_uri=store.uri
            )
        )
    except (MlflowException, requests.RequestException, OSError) as error:
        if is_away(error):
            raise
        raise UserError(f"{name} is missing in {redact(folder)}") from error
    return _inside(Path(target), str(path.relative_to(target)))


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{name} is missing in {folder}")
    if path.resolve() != folder.resolve() / name:
        raise UserError(f"{path} leads out of its folder to {path.resolve()}: not opened")
    return path
