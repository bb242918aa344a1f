"""What killed processes left in a project: named by `zoo doctor`, removed by `zoo doctor --clean`.

The same command run again removes most of it. This finds what no command comes back to.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from zoo.files import HELD_SECONDS, is_abandoned
from zoo.files.folders import HALF_COPY, FolderKind, clear
from zoo.registry.local_database import DATABASE, database_path, store_address

if TYPE_CHECKING:
    from zoo.registry.store import Store

# Where zoo writes files, and there alone these: elsewhere they may be somebody's own.
FILES = (".registered.json.*", "metrics/train/.*.json.*", "effect/.*", "summary/.*")
OWN = (".zoo/cache/*/.*", ".zoo/checkpoints/*/.*")  # all of it is zoo's
COPIED_BY_DVC = ("effect", "summary", "models/*")
UPLOADING = ".artifact.uploading.*"  # MLflow's own temporary files
ASIDE = re.compile(r"\..+\.old\.[a-z0-9_]{8}")


@dataclass(frozen=True)
class Leftover:
    """One thing that a killed process left, and what takes it away and says whether it is gone."""

    kind: str
    label: str
    remove: Callable[[], bool]


def held_locks(root: Path) -> list[Path]:
    """Return the locks that processes of this project hold now."""
    own = root / ".zoo"
    found = sorted([*own.glob("locks/*.lock"), *own.glob("checkpoints/*.lock")])
    return [path for path in found if not _is_free(path)]


def find_leftovers(root: Path) -> Iterator[Leftover]:
    """Find what processes of this project that have ended left; nothing is changed."""
    yield from _folders(root)
    for pattern in FILES:
        for path in root.glob(pattern):
            if path.is_file() and is_abandoned(path):
                yield _file("half-written file", path)
    for pattern in OWN:
        for path in root.glob(pattern):
            if is_abandoned(path):
                yield _file("half-written copy", path)
    for place in COPIED_BY_DVC:
        for path in root.glob(f"{place}/{HALF_COPY}"):
            if _is_old(path):
                yield _file("half-made copy", path)
    yield from _of_the_store(root)


def _folders(root: Path) -> Iterator[Leftover]:
    for place, kinds in _places().items():
        for path in root.glob(place):
            if path.is_dir() and is_abandoned(path):
                replaced = ASIDE.fullmatch(path.name)
                name = "half-replaced folder" if replaced else "half-written folder"
                yield Leftover(name, str(path), functools.partial(clear, path, *kinds))


def _places() -> dict[str, list[FolderKind]]:
    """Return what zoo writes where: a folder that holds anything else is not removed."""
    from zoo import comparison
    from zoo.data.subsets import SUBSET
    from zoo.experiments import probing_report, transfer_report
    from zoo.report import zoo_map
    from zoo.training.variants import TRAINED

    return {
        "models/.*": [TRAINED],
        "data/subsets/.*": [SUBSET],
        "reports/.*": [
            comparison.FOLDER,
            transfer_report.FOLDER,
            probing_report.FOLDER,
            zoo_map.FOLDER,
        ],
        ".comparisons.*": [FolderKind(folders={"*": comparison.FOLDER})],
    }


def _is_old(path: Path) -> bool:
    """Say whether nobody has written for a while what MLflow or DVC writes without a lock."""
    return path.stat().st_ctime < time.time() - HELD_SECONDS


def _file(kind: str, path: Path) -> Leftover:
    return Leftover(kind, str(path), functools.partial(_remove, path))


def _remove(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return True


def _of_the_store(root: Path) -> Iterator[Leftover]:
    database = database_path(store_address(root))
    if database is not None and database == root / DATABASE:
        if _is_free(root / ".zoo" / "locks" / "database.lock"):
            for path in root.glob(f".{DATABASE}.*"):
                yield _file("half-made database", path)
        for path in root.glob(f"mlartifacts/**/{UPLOADING}"):
            if _is_old(path):
                yield _file("half-copied artifact", path)
    if database is not None and not database.is_file():
        return
    from zoo.registry.store import open_store

    store = open_store(root, create=False)
    with store.translate_mlflow_errors():
        for run, locks in _running(store):
            label = f"{run.info.run_name} (run {run.info.run_id})"
            remove = functools.partial(_remove_run, store, run.info.run_id, locks)
            yield Leftover("unfinished run", label, remove)


def _running(store: Store) -> Iterator[tuple[Any, list[Path]]]:
    """Yield this place's runs that nobody works at, with the locks of who would."""
    from zoo.registry.runs import PLACE, RUNNING, quoted
    from zoo.registry.store import EXPERIMENTS

    known = map(store.client.get_experiment_by_name, EXPERIMENTS)
    ids = [experiment.experiment_id for experiment in known if experiment]
    mine = f"tags.`{PLACE}` = {quoted(store.place)} and attributes.status = {quoted(RUNNING)}"
    for run in store.client.search_runs(ids, mine) if ids else ():
        locks = _locks(store, run.data.tags)
        # A training that has a checkpoint goes on in its run.
        goes_on = any((lock.with_suffix("") / "checkpoint.safetensors").is_file() for lock in locks)
        if not goes_on and all(map(_is_free, locks)):
            yield run, locks


def _locks(store: Store, tags: dict[str, str]) -> list[Path]:
    """Return the locks under which a run with these tags is made."""
    own = store.root / ".zoo"
    names = []
    if digest := tags.get("zoo.comparison_digest"):
        names.append(f"locks/compare-{digest[:16]}")
    elif inputs := tags.get("zoo.input_hash"):
        names.append(f"checkpoints/{inputs}")
    elif "zoo.images_digest" in tags:
        names.append(f"locks/images-{tags['zoo.test_digest'][:16]}")
    if name := tags.get("zoo.name"):
        names.append(f"locks/register-{store.registered_name(name)}")
    return [own / f"{name}.lock" for name in names]


def _remove_run(store: Store, run_id: str, locks: list[Path]) -> bool:
    from zoo.registry.runs import delete_unfinished

    with store.translate_mlflow_errors():
        run = store.client.get_run(run_id)
        if not all(map(_is_free, locks)):
            return False
        delete_unfinished(store, [run])
        return True


def _is_free(lock: Path) -> bool:
    """Say whether nobody holds a lock, which is looked at for a moment and never made."""
    if not os.path.exists(lock):
        return True
    try:
        # Whoever needs a lock waits at least a second for it.
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False
