"""The MLflow store of a project: found, created if there is none, and locked."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from zoo.config import load_params
from zoo.errors import UserError
from zoo.files import find_root
from zoo.registry.credentials import keep_credentials_home
from zoo.registry.faults import UNWRITABLE, cannot_be_opened, redact, translate_mlflow_errors
from zoo.registry.local_database import (
    DATABASE,
    database_path,
    folders_elsewhere,
    store_address,
)

TRAIN, TEST_IMAGES, COMPARE, AUDIT = "zoo-train", "zoo-data", "zoo-compare", "zoo-audit"
EXPERIMENTS = {  # with what MLflow's list says of each
    TRAIN: "One run for each training: curves, settings, data and the registered version.",
    TEST_IMAGES: "Test images that models are compared on, stored once.",
    COMPARE: "Comparisons and maps of models: open the page among a run's artifacts.",
    AUDIT: "Audits of the measures of similarity: which of them tell models apart.",
}
ARTIFACTS, OWN = "mlartifacts", ".zoo"
LOCK_SECONDS = 600
KINDS = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Store:
    """A tracking server or database with its registry, as seen from a project's root folder."""

    client: MlflowClient
    uri: str = field(repr=False)  # may hold a password
    root: Path
    _experiments: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_server(self) -> bool:
        """Whether zoo reaches the database through an MLflow server."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def cache(self) -> Path:
        """The folder for fetched files, each named by its digest."""
        return self.root / OWN / "cache"

    @property
    def place(self) -> str:
        """A name for this project on this machine; its runs are tagged with it."""
        return hashlib.sha256(f"{socket.gethostname()}:{self.root}".encode()).hexdigest()[:16]

    def registered_name(self, name: str) -> str:
        """Return a study's model's name in the registry; other names stay as they are."""
        return self._study.get(name, name)

    def own_name(self, name: str) -> str:
        """Return the study's name for a registered model; other names stay as they are."""
        return {registered: own for own, registered in self._study.items()}.get(name, name)

    @cached_property
    def _study(self) -> dict[str, str]:
        params = self.root / "params.yaml"
        return load_params(params).registered_names if params.is_file() else {}

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment; create it if it does not exist."""
        if name not in self._experiments:
            self._experiments[name] = self._find_or_create(name)
        return self._experiments[name]

    def translate_mlflow_errors(self) -> AbstractContextManager[None]:
        """Turn what MLflow raises inside into a `UserError` that names this store."""
        return translate_mlflow_errors(self.uri)

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Keep other processes of this project from doing the same thing."""
        return _lock(self.root, name)

    def _find_or_create(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                tags = {"mlflow.note.content": EXPERIMENTS[name]}
                return self.client.create_experiment(name, self._artifact_location(name), tags)
            except MlflowException:
                # Another process was faster.
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(
                f"the experiment {name} is deleted: bring it back with "
                f"mlflow experiments restore --experiment-id {found.experiment_id}"
            )
        return found.experiment_id

    def _artifact_location(self, name: str) -> str | None:
        if self.is_server:
            return None
        database = database_path(self.uri)
        folder = database.parent if database else self.root
        return (folder / ARTIFACTS / name).as_uri()


def open_store(root: Path | None = None, *, create: bool = True) -> Store:
    """Open the project's store: `MLFLOW_TRACKING_URI`, or else `mlflow.db` in the root.

    The project is that of `root`, by default the one around the working folder. With `create`, a
    missing database is created; callers that only read do without.

    Raises:
        UserError: MLflow has no such address, the database cannot be used, or there is none and
            `create` is false.
    """
    root = (root or find_root()).resolve()
    uri = store_address(root)
    _check_address(uri)
    path = database_path(uri)
    if not create and path is not None and not path.exists():
        raise UserError(
            f"no registry: there is no {path}; run this in a project (`dvc repro` or `zoo "
            "register` makes its registry) or set MLFLOW_TRACKING_URI to that of a server"
        )
    if path is not None and path.exists():
        _check_database(path, create)
        _check_not_moved(path)
    keep_credentials_home()
    try:
        with translate_mlflow_errors(uri):
            _create_database(uri, root)
            return Store(MlflowClient(uri, registry_uri=uri), uri, root)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{redact(uri)} needs the Python package {error.name}: install it, or let "
            "MLFLOW_TRACKING_URI name an MLflow server, which needs none"
        ) from None


@contextmanager
def _lock(root: Path, name: str) -> Iterator[None]:
    path = root / OWN / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(
            f"another process has held {path} for {LOCK_SECONDS} s: wait for it or end it"
        ) from None


def _check_address(uri: str) -> None:
    kind, _, rest = uri.partition(":")
    if kind.split("+")[0] not in KINDS:
        raise UserError(
            "MLFLOW_TRACKING_URI: expected an address that begins with one of "
            f"{', '.join(KINDS)}, got {redact(uri)!r}"
        )
    if (kind.startswith("sqlite") and not rest.startswith("///")) or rest == "///":
        raise UserError(f"MLFLOW_TRACKING_URI: expected sqlite:///FILE, got {redact(uri)!r}")
    path = database_path(uri)
    if path is not None and path.is_symlink():  # to itself: any other has been followed
        raise UserError(cannot_be_opened(str(path)))


def shared_store_warning(store: Store) -> tuple[str, str] | None:
    """Say if a store is a copy that shares its files with the original, and how to fix it."""
    database = database_path(store.uri)
    for folder in folders_elsewhere(database, EXPERIMENTS) if database else ():
        if (first := folder.parent / DATABASE).is_file():
            return (
                f"{database} is a copy of {first}: what it registers is written into that one's "
                f"{first.parent / ARTIFACTS}",
                f"remove {database}* and run `zoo register`, which makes a registry of its own "
                "(aliases, tags and comparisons stay in the original)",
            )
    return None


def show_uri(store: Store) -> str:
    """Return the store's address without credentials."""
    return redact(store.uri)


def _check_database(path: Path, create: bool) -> None:
    # By SQLite, not by reading the file: closing a file that SQLite has open in this process ends
    # SQLite's locks on it, and then two processes that write at once destroy it.
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            query = "SELECT count(*) FROM sqlite_master WHERE name = 'registered_models'"
            (tables,) = database.execute(query).fetchone()
        if not (tables or create):  # MLflow would create its tables in it
            raise UserError(
                f"{path} is not a registry: it is empty, or another program's database; move it "
                "away and run `zoo register`, or correct MLFLOW_TRACKING_URI"
            )
    except sqlite3.OperationalError as error:
        # MLflow would try again and again, for two minutes.
        if path.is_dir() or UNWRITABLE.search(str(error)):
            raise UserError(cannot_be_opened(str(path))) from None
        return  # busy: MLflow waits
    except sqlite3.DatabaseError:
        raise UserError(
            f"{path} is not an SQLite database: expected MLflow's; move it away and run `zoo "
            "register`, or correct MLFLOW_TRACKING_URI"
        ) from None


def _check_not_moved(database: Path) -> None:
    for folder in folders_elsewhere(database, EXPERIMENTS):
        if not folder.exists():
            raise UserError(
                f"{database} was made in another place: its files lie in {folder}, which does not "
                f"exist; move the project back, or remove {database.name}* and run `zoo register` "
                "(aliases, tags and comparisons that are in it alone will be gone)"
            )


def _create_database(uri: str, root: Path) -> None:
    """Create a local database, complete or not at all, and once if two processes try."""
    path = database_path(uri)
    if path is None or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with _lock(root, "database"):
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            # MLflow migrates step by step and cannot continue after a kill in between.
            created = SqlAlchemyStore(f"sqlite:///{new}", (path.parent / ARTIFACTS).as_uri())
            created.engine.dispose()
            with closing(sqlite3.connect(new)) as connection:
                # Readers do not wait for a writer: with many, logging is twice as fast.
                connection.execute("PRAGMA journal_mode=WAL")
            os.replace(new, path)
        finally:
            for left in path.parent.glob(f"{new.name}*"):
                left.unlink()
