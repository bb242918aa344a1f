"""Does the store exist, does it answer, and does its schema fit this MLflow?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zoo.errors import counted
from zoo.registry.doctor import Check
from zoo.registry.local_database import database_path, store_address


def check_store(root: Path) -> Iterator[Check]:
    """Look into the store without making one."""
    path = database_path(store_address(root))
    if path is not None and not path.exists():
        yield Check("store", "ok", f"none yet; {path} is made when a model is registered")
        return
    from zoo.registry.listing import list_versions
    from zoo.registry.store import open_store, shared_store_warning, show_uri

    store = open_store(root, create=False)
    rows = list_versions(store)
    if told := shared_store_warning(store):
        yield Check("store", "warning", *told)
    models = counted(len({row.name for row in rows}), "model")
    found = f"{show_uri(store)}: {counted(len(rows), 'version')} of {models}"
    yield Check("store", "ok", found)
