"""Fingerprints of registered models: made once, kept with the model and in the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from zoo.data.pictures import EvaluationImages
from zoo.device import describe_device
from zoo.errors import UserError
from zoo.files import write_bytes
from zoo.measures.sampling import MIN_BATCH
from zoo.progress import OnProgress, no_progress
from zoo.registry.artifacts import fetch_file
from zoo.registry.compare import identity
from zoo.registry.faults import is_unreachable
from zoo.registry.filters import choose
from zoo.registry.images import evaluation_images
from zoo.registry.listing import VersionRow, list_versions
from zoo.registry.references import Resolved
from zoo.registry.resolve import load_resolved, resolve
from zoo.registry.store import Store, show_uri
from zoo.study.fingerprint import (
    IMAGES,
    Fingerprint,
    fingerprint,
    fingerprint_key,
    read_fingerprint,
    write_fingerprint,
)

FOLDER = "fingerprints"


@dataclass(frozen=True)
class Kept:
    """A fingerprint's file, which was checked, and its facts; `made` just now, or found."""

    path: Path
    family: str
    problems: dict[str, str]
    made: bool
    deterministic: bool
    mixes_images: bool


def chosen_versions(store: Store, query: str) -> list[VersionRow]:
    """Return every registered version that matches a filter; `UserError` if none does."""
    rows = choose(list_versions(store), query=query)
    if not rows:
        what = f"passes the filter {query!r}" if query else "is registered"
        raise UserError(f"no model {what} in {show_uri(store)} (zoo list shows what there is)")
    return rows


def as_model(row: VersionRow) -> Resolved:
    """Return a row of the listing as a model; it is looked up only when its files are needed."""
    name = f"{row.name}/{row.version}"
    return Resolved(name, "version", row.name, name, digest=row.digest, version=row.version)


def named_images(
    store: Store, models: Iterable[Resolved], data: Path | None, count: int | None
) -> EvaluationImages:
    """Return the images for fingerprints, evenly over the classes; 512 by default.

    Raises:
        UserError: there are none, or fewer than unbiased CKA needs.
    """
    count = count or IMAGES
    known = (_looked_up(store, model) for model in models)
    images = evaluation_images(store, known, data, count).evenly(count)
    if len(images) < MIN_BATCH:
        raise UserError(
            f"{data or images.source}: expected at least {MIN_BATCH} images, got {len(images)}"
        )
    return images


def keep_all(
    store: Store,
    models: Sequence[Resolved],
    images: EvaluationImages,
    *,
    device: str,
    on_progress: OnProgress = no_progress,
) -> Iterator[Kept | str]:
    """Yield the fingerprint of each model, or why it has none; arguments as `keep_fingerprint`."""
    for done, model in enumerate(models):
        on_progress(done, len(models), "models")
        try:
            yield keep_fingerprint(store, model, images, device=device)
        except UserError as error:
            if error.__context__ and is_unreachable(error.__context__):
                raise  # every other model would take as long to fail
            yield str(error)
    on_progress(len(models), len(models), "models")


def keep_fingerprint(
    store: Store,
    model: Resolved,
    images: EvaluationImages,
    *,
    device: str,
) -> Kept:
    """Return a model's fingerprint; make it if there is none.

    It is kept in the project's cache and, for a registered version, as an artifact of it. A damaged
    one is fetched or made again.

    Raises:
        UserError: the model is damaged.
    """
    key = fingerprint_key(identity(model), images.digest)
    if known := _cached(store, key):  # without asking MLflow
        return known
    with store.translate_mlflow_errors(), store.lock(f"fingerprint-{key[:16]}"):
        model = _looked_up(store, model)
        if known := _cached(store, key) or _fetched(store, model, key):
            return known
        loaded = load_resolved(store, model)
        found = fingerprint(loaded, images.images, device=device)
        made_by = describe_device(device) | {name: version(name) for name in ("torch", "timm")}
        path, content = _file(store, key), write_fingerprint(found, key, made_by)
        if model.model_id:  # before the cache: what is cached is not logged again
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) / FOLDER
                folder.mkdir()
                write_bytes(folder / path.name, content)
                store.client.log_model_artifacts(model.model_id, temporary)
        write_bytes(path, content)
        return _kept(path, found, made=True)


def _looked_up(store: Store, model: Resolved) -> Resolved:
    listed = model.version is not None and not model.artifacts
    return resolve(store, model.uri) if listed else model


def _file(store: Store, key: str) -> Path:
    return store.cache / FOLDER / f"{key}.safetensors"


def _kept(path: Path, found: Fingerprint, *, made: bool) -> Kept:
    vary = found.deterministic, found.mixes_images
    return Kept(path, found.family, dict(found.problems), made, *vary)


def _cached(store: Store, key: str) -> Kept | None:
    path = _file(store, key)
    with suppress(UserError):  # there is none, or it is damaged
        return _kept(path, read_fingerprint(path, key), made=False)
    return None


def _fetched(store: Store, model: Resolved, key: str) -> Kept | None:
    """Copy a fingerprint from the version's artifacts into the cache, if it is there."""
    if not model.model_id:
        return None
    path = _file(store, key)
    with tempfile.TemporaryDirectory() as temporary, suppress(UserError):  # it has none
        came = fetch_file(store, model.artifacts, f"{FOLDER}/{path.name}", temporary)
        write_bytes(path, came.read_bytes())
    return _cached(store, key)
