"""Aliases on versions: one version per name and alias, also where two machines put it at once."""

from __future__ import annotations

import contextlib

from zoo.registry.faults import retry_on_conflict
from zoo.registry.lookup import CURRENT, DIGEST, EXPERIMENT, all_versions
from zoo.registry.runs import quoted
from zoo.registry.store import Store

BEST = "best"
RANKING = "zoo.validation_accuracy"


def set_alias(store: Store, name: str, alias: str, version: str) -> None:
    """Put an alias on a version, and take it from the one that had it."""
    retry_on_conflict(lambda: store.client.set_registered_model_alias(name, alias, version))


def point_best(store: Store, name: str) -> None:
    """Put the alias `best` on the version with the highest validation accuracy; ties: the older.

    Experiments take no part.
    """
    # Looked at again after each move: another machine may have added a better version since, and
    # pointed at it before this one did. Versions are only added, so this ends.
    while (best := _best(store, name)) not in (None, _aliased(store, name, BEST)):
        set_alias(store, name, BEST, str(best))


def point_current(store: Store, name: str, version: int) -> None:
    """Let a name mean one of its versions."""
    if _aliased(store, name, CURRENT) != version:
        set_alias(store, name, CURRENT, str(version))


def _best(store: Store, name: str) -> int | None:
    ranked = [
        (float(version.tags[RANKING]), -int(version.version))
        for version in all_versions(store, f"name = {quoted(name)}")
        if DIGEST in version.tags
        and EXPERIMENT not in version.tags
        and _is_number(version.tags.get(RANKING))
    ]
    return -max(ranked)[1] if ranked else None


def _aliased(store: Store, name: str, alias: str) -> int | None:
    number = store.client.get_registered_model(name).aliases.get(alias)
    return None if number is None else int(number)


def _is_number(text: str | None) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        return float(text or "") == float(text or "")
    return False
