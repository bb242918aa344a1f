"""Aliases on versions: one version per name and alias, also where two machines put it at once."""

from __future__ import annotations

from zoo.registry.faults import retry_on_conflict
from zoo.registry.listing import number_of
from zoo.registry.lookup import CURRENT, DIGEST, EXPERIMENT, aliases_of, versions_of
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
    while (best := _best(store, name)) not in (None, aliases_of(store, name).get(BEST)):
        set_alias(store, name, BEST, str(best))


def point_current(store: Store, name: str, version: int) -> None:
    """Let a name mean one of its versions."""
    if aliases_of(store, name).get(CURRENT) != version:
        set_alias(store, name, CURRENT, str(version))


def _best(store: Store, name: str) -> int | None:
    ranked = [
        (accuracy, -int(version.version))
        for version in versions_of(store, name)
        if DIGEST in version.tags
        and EXPERIMENT not in version.tags
        and (accuracy := number_of(float, version.tags.get(RANKING))) is not None
    ]
    return -max(ranked)[1] if ranked else None
