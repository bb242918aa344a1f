"""From a reference to a model: looked up in the registry, fetched, verified, loaded or copied.

Only zoo's own files are read, by their fixed names, and nothing is unpickled. MLflow is imported
only for registered models: folders do not need it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from zoo.errors import UserError
from zoo.files import write_text
from zoo.files.folders import FolderKind, check_replaceable, replacing_folder
from zoo.models.spec import SPEC, SPEC_KEYS, WEIGHTS, model_digest, read_spec
from zoo.registry.card import CARD, model_card
from zoo.registry.references import Resolved, parse, resolve_folder

if TYPE_CHECKING:
    from zoo.models.files import LoadedModel
    from zoo.registry.store import Store

LARGEST_SPEC = 16 << 20  # bytes; a spec of 20,000 class names is far below
CACHED = FolderKind(files=(SPEC, WEIGHTS))
PULLED = FolderKind(SPEC, SPEC_KEYS, files=(WEIGHTS, CARD))


def resolve(store: Store | None, reference: str) -> Resolved:
    """Find what a reference means, without fetching it.

    A reference is a name (its current version), `NAME/3`, `NAME@alias`, `runs:/…`, `models:/…`,
    `timm:NAME` or `hf:NAME` (built by the library when it is loaded), or a folder. Without a store,
    the project's is opened if needed.

    Raises:
        UserError: nothing is there, or zoo did not save it.
    """
    parsed = parse(reference)
    if parsed.kind == "folder":
        return resolve_folder(parsed)
    if parsed.kind == "timm":
        return Resolved(reference, "timm", parsed.name, label=parsed.name)
    if parsed.kind == "hf":
        return Resolved(reference, "hf", Path(parsed.name).name, label=parsed.name)
    from zoo.registry.lookup import look_up

    return look_up(store or _open(), parsed)


def fetch_model(store: Store | None, resolved: Resolved) -> Path:
    """Return a folder with a model's spec and weights, after verifying their digest.

    Raises:
        UserError: a file is missing, or is not what was registered.
    """
    if resolved.folder is not None:
        return resolved.folder
    if resolved.kind in ("timm", "hf"):
        raise UserError(f"{resolved.reference} has no folder: it is built when it is loaded")
    from zoo.registry.artifacts import local_folder
    from zoo.registry.flavor import MODEL_FILES

    local = local_folder(resolved.artifacts)
    if local is not None:
        for name in (SPEC, WEIGHTS):
            _fetch(None, resolved, name, "")
        _check_digest(resolved, model_digest(local / MODEL_FILES))
        return local / MODEL_FILES
    store = store or _open()
    folder = store.cache / "models" / resolved.digest
    if not _is_intact(folder, resolved.digest):
        with store.translate_mlflow_errors(), store.lock(f"model-{resolved.digest[:16]}"):
            if not _is_intact(folder, resolved.digest):
                _download(store, resolved, folder)
    return folder


def load(reference: str, *, store: Store | None = None) -> LoadedModel:
    """Load a model by its reference; see `resolve` for the forms.

    Raises:
        UserError: nothing is there, zoo did not save it, or it is damaged.
    """
    return load_resolved(store, resolve(store, reference))


def load_resolved(store: Store | None, resolved: Resolved, *, name: str = "") -> LoadedModel:
    """Load a model that was found; `name` is its name in reports."""
    if resolved.kind == "timm":
        from zoo.models.pretrained import load_timm

        return load_timm(resolved.name)
    if resolved.kind == "hf":
        from zoo.models.huggingface import load_hf

        return load_hf(resolved.label)
    folder = fetch_model(store, resolved)
    from zoo.models.files import load_model

    model = load_model(folder, name=name or resolved.label, uri=resolved.uri)
    _check_digest(resolved, model.digest)
    return model


def pull(model: Resolved, folder: Path, *, store: Store | None = None) -> None:
    """Write a model's weights, spec and card into a folder that `zoo.load` accepts.

    It replaces a folder only if that is empty, or holds a pulled model and nothing else.

    Raises:
        UserError: `folder` holds something else, or the model is damaged or cannot be fetched.
    """
    own = os.path.realpath(folder)
    if model.folder is None or os.path.realpath(model.folder) != own:
        check_replaceable(folder, PULLED)  # before anything is fetched
    source = fetch_model(store, model)
    if model.kind == "folder":
        # A registered model was loaded when it was registered; a folder may never have been.
        load_resolved(store, model)
    if os.path.realpath(source) == own:
        raise UserError(f"{model.reference} lies in {folder} already; name another folder")
    with replacing_folder(folder, PULLED) as new:
        for name in (SPEC, WEIGHTS):
            shutil.copyfile(source / name, new / name)
        write_text(new / CARD, model_card(read_spec(new / SPEC), model.digest))


def _open() -> Store:
    from zoo.registry.store import open_store

    return open_store(create=False)


def _download(store: Store, resolved: Resolved, folder: Path) -> None:
    with replacing_folder(folder, CACHED) as new, TemporaryDirectory(dir=new) as temporary:
        for name in (SPEC, WEIGHTS):
            _fetch(store, resolved, name, temporary).replace(new / name)
        _check_digest(resolved, model_digest(new))


def _fetch(store: Store | None, resolved: Resolved, name: str, target: str) -> Path:
    from zoo.registry.artifacts import fetch_file
    from zoo.registry.flavor import MODEL_FILES

    try:
        path = fetch_file(store, resolved.artifacts, f"{MODEL_FILES}/{name}", target)
    except UserError as error:
        raise UserError(
            f"{resolved.reference} ({resolved.uri}) cannot be fetched: {error}; "
            "register it again where it was trained"
        ) from None
    if name == SPEC and path.stat().st_size > LARGEST_SPEC:
        raise UserError(f"{resolved.reference}: {SPEC} has {path.stat().st_size:,} bytes: no spec")
    return path


def _check_digest(resolved: Resolved, came: str) -> None:
    if came != resolved.digest:
        raise UserError(
            f"{resolved.reference} ({resolved.uri}) is damaged or was changed after it was "
            f"registered: expected sha256 {resolved.digest[:12]}, got {came[:12]}; not loaded: "
            "run `zoo register` where it was trained, or restore its files"
        )


def _is_intact(folder: Path, digest: str) -> bool:
    try:
        return model_digest(folder) == digest
    except UserError:  # a file is missing: somebody cleaned the cache
        return False
