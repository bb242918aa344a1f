"""Single files of MLflow's artifacts, requested by name and never by what a listing says."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import FileInfo

from zoo.errors import UserError
from zoo.registry.faults import is_unreachable, redact
from zoo.registry.store import Store


def local_folder(uri: str) -> Path | None:
    """Return the folder of an artifact address, if it is on this machine."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # half of an IPv6 address
        return None
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    return Path(uri) if uri.startswith("/") else None


def fetch_file(store: Store | None, folder: str, name: str, target: str | Path) -> Path:
    """Return a file of an artifact folder: the file itself if it is on this machine, else a copy.

    `folder` is an address, `name` a path inside it with forward slashes, and `target` a folder for
    the copy. Without a store, only files on this machine are found.

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
    except Exception as error:
        if is_unreachable(error) and not _is_elsewhere(store, folder):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of this machine
            raise
        raise UserError(f"{name} is missing in {redact(folder)}{_lacking(error)}") from error
    return _inside(Path(target), str(path.relative_to(target)))


def missing_files(
    store: Store, folder: str, names: Iterable[str], sizes: Mapping[str, int] | None = None
) -> list[str]:
    """Return which files an artifact folder lacks; nothing is fetched.

    A file of another size than in `sizes` counts as missing. `names` are at most one folder deep.
    """
    wanted, sizes = list(names), sizes or {}
    there = {
        f"{parent}{Path(entry.path).name}": entry.file_size
        for parent in {name[: name.rfind("/") + 1] for name in wanted}
        for entry in _listed(store, f"{folder}/{parent}".rstrip("/"))
        if not entry.is_dir
    }
    # Some stores report no sizes.
    return [
        name
        for name in wanted
        if name not in there or there[name] not in {None, sizes.get(name, there[name])}
    ]


def _listed(store: Store, folder: str) -> list[FileInfo]:
    try:
        return mlflow.artifacts.list_artifacts(artifact_uri=folder, tracking_uri=store.uri)
    except Exception as error:
        if is_unreachable(error) and not _is_elsewhere(store, folder):
            raise
        return []


def _is_elsewhere(store: Store, folder: str) -> bool:
    """Say whether an address is on another host than the tracking server."""
    host = urlsplit(folder).hostname
    return host is not None and host != urlsplit(store.uri).hostname


def _lacking(error: Exception) -> str:
    """Name the Python package that is missing, if that is the cause."""
    missing = error if isinstance(error, ImportError) else error.__cause__
    return f" (needs the Python package {missing.name})" if isinstance(missing, ImportError) else ""


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{name} is missing in {folder}")
    real = folder.resolve()
    if path.resolve() != real / name or not path.resolve().is_relative_to(real):
        raise UserError(f"{path} leads out of its folder to {path.resolve()}: not opened")
    return path
