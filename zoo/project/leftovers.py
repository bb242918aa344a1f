"""What killed processes left in a project: `zoo doctor` lists it, `zoo doctor --clean` removes it.

Most of it is removed when the same command runs again. This finds the rest.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from zoo.files import HELD_SECONDS, is_abandoned
from zoo.files.folders import HALF_COPY, FolderKind, clear
from zoo.registry.local_database import DATABASE, database_path, store_address

if TYPE_CHECKING:
    from zoo.registry.store import Store

# Only where zoo writes such files: elsewhere they may be somebody's own.
FILES = (".registered.json.*", "metrics/train/.*.json.*", "effect/.*", "summary/.*")
OWN = (".zoo/cache/*/.*", ".zoo/checkpoints/*/.*")  # all of it is zoo's
COPIED_BY_DVC = tuple(f"{place}/{HALF_COPY}" for place in ("effect", "summary", "models/*"))
MADE = (f".{DATABASE}.*",)
UPLOADED = ("mlartifacts/**/.artifact.uploading.*",)  # MLflow's own temporary files
ASIDE = re.compile(r"\..+\.old\.[a-z0-9_]{8}")
# The lock under which a run is made, by the tag that says what the run is of.
LOCKS = {
    "zoo.input_hash": "checkpoints/{}",
    "zoo.name": "locks/register-{}",
    "zoo.test_digest": "locks/images-{:.16}",
    "zoo.comparison_digest": "locks/compare-{:.16}",
    "zoo.map_digest": "locks/map-{:.16}",
    "zoo.audit_models": "locks/audit",
}


@dataclass(frozen=True)
class Leftover:
    """Something that a killed process left; `remove` says whether it is gone afterwards."""

    kind: str
    label: str
    remove: Callable[[], bool]


def held_locks(root: Path) -> list[Path]:
    """Return the locks that processes of this project hold."""
    own = root / ".zoo"
    found = sorted([*own.glob("locks/*.lock"), *own.glob("checkpoints/*.lock")])
    return [path for path in found if not _is_free(path)]


def find_leftovers(root: Path) -> Iterator[Leftover]:
    """Find what ended processes of this project left; nothing is changed."""
    yield from _folders(root)
    making = root / ".zoo" / "locks" / "database.lock"
    # With another store, these may belong to somebody's server that runs here.
    own = database_path(store_address(root)) == root / DATABASE
    made, uploaded = (MADE, UPLOADED) if own else ((), ())
    for kind, patterns, is_left in (
        ("half-written file", FILES, lambda path: path.is_file() and is_abandoned(path)),
        ("half-written copy", OWN, is_abandoned),
        ("half-made copy", COPIED_BY_DVC, _is_old),
        ("half-made database", made, lambda _: _is_free(making)),
        ("half-copied artifact", uploaded, _is_old),
    ):
        for path in itertools.chain(*map(root.glob, patterns)):
            if is_left(path):
                yield Leftover(kind, str(path), functools.partial(_remove, path))
    yield from _runs(root)


def _folders(root: Path) -> Iterator[Leftover]:
    for place, kinds in _places().items():
        for path in root.glob(place):
            if path.is_dir() and is_abandoned(path):
                replaced = ASIDE.fullmatch(path.name)
                name = "half-replaced folder" if replaced else "half-written folder"
                yield Leftover(name, str(path), functools.partial(clear, path, *kinds))


def _places() -> dict[str, list[FolderKind]]:
    """Return the kinds of folders by place; a folder that holds anything else is not removed."""
    from zoo import comparison
    from zoo.data.subsets import SUBSET
    from zoo.experiments import audit_report, probing_report, transfer_report
    from zoo.report import zoo_map
    from zoo.training.variants import TRAINED

    return {
        "models/.*": [TRAINED],
        "data/subsets/.*": [SUBSET],
        "reports/.*": [
            comparison.FOLDER,
            transfer_report.FOLDER,
            probing_report.FOLDER,
            audit_report.FOLDER,
            zoo_map.FOLDER,
        ],
        ".comparisons.*": [FolderKind(folders={"*": comparison.FOLDER})],
    }


def _is_old(path: Path) -> bool:
    """Say whether a file that MLflow or DVC writes without a lock is no longer being written."""
    return path.stat().st_ctime < time.time() - HELD_SECONDS


def _remove(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return True


def _runs(root: Path) -> Iterator[Leftover]:
    """Find this place's runs that nobody works at."""
    database = database_path(store_address(root))
    if database is not None and not database.is_file():
        return
    from zoo.registry.runs import PLACE, RUNNING, quoted
    from zoo.registry.store import EXPERIMENTS, open_store

    store = open_store(root, create=False)
    with store.translate_mlflow_errors():
        known = map(store.client.get_experiment_by_name, EXPERIMENTS)
        ids = [experiment.experiment_id for experiment in known if experiment]
        mine = f"tags.`{PLACE}` = {quoted(store.place)} and attributes.status = {quoted(RUNNING)}"
        for run in store.client.search_runs(ids, mine) if ids else ():
            # Only names change here: a digest is no name of the study's.
            of = {tag: store.registered_name(value) for tag, value in run.data.tags.items()}
            made_in = [root / ".zoo" / LOCKS[tag].format(of[tag]) for tag in LOCKS if tag in of]
            # A training with a checkpoint will continue its run.
            goes_on = any((path / "checkpoint.safetensors").is_file() for path in made_in)
            locks = [path.with_name(f"{path.name}.lock") for path in made_in]
            if not goes_on and all(map(_is_free, locks)):
                label = f"{run.info.run_name} (run {run.info.run_id})"
                remove = functools.partial(_remove_run, store, run.info.run_id, locks)
                yield Leftover("unfinished run", label, remove)


def _remove_run(store: Store, run_id: str, locks: list[Path]) -> bool:
    from zoo.registry.runs import delete_unfinished

    with store.translate_mlflow_errors():
        run = store.client.get_run(run_id)
        if not all(map(_is_free, locks)):
            return False
        delete_unfinished(store, [run])
        return True


def _is_free(lock: Path) -> bool:
    """Say whether nobody holds a lock; a lock file that is missing is not created."""
    if not os.path.exists(lock):
        return True
    try:
        # Held for an instant only: whoever needs a lock waits at least a second for it.
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False
