"""Aliases, tags and descriptions of registered versions: all checked, then sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mlflow.entities.model_registry import ModelVersion

from zoo.errors import UserError
from zoo.registry.faults import retry_on_conflict
from zoo.registry.filters import FIELDS
from zoo.registry.listing import RESERVED, number_of, own_tags
from zoo.registry.lookup import (
    CURRENT,
    DIGEST,
    EXPERIMENT,
    get_version,
    versions_by_alias,
    versions_of,
)
from zoo.registry.references import check_alias, parse
from zoo.registry.store import Store

BEST = "best"
RANKING = "zoo.validation_accuracy"
KEY = r"[A-Za-z0-9_.-]{1,250}"
LONGEST = 5000  # characters of a tag's value or a description: MLflow's columns


def find_registered(store: Store, reference: str) -> ModelVersion:
    """Find a registered version, even one whose files are gone.

    Raises:
        UserError: there is none, or the reference names something else.
    """
    parsed = parse(reference)
    if parsed.kind != "version":
        raise UserError(
            f"expected a registered version as NAME, NAME/3 or NAME@alias, got {reference!r}"
        )
    with store.translate_mlflow_errors():
        return get_version(store, parsed)


def promote(store: Store, reference: str, alias: str) -> tuple[ModelVersion, int | None]:
    """Move an alias to a version.

    Returns:
        The version, and the number of the one that had the alias before, if any.

    Raises:
        UserError: MLflow does not accept the alias, or there is no such version.
    """
    check_alias(alias)
    version = find_registered(store, reference)
    with store.translate_mlflow_errors():
        before = versions_by_alias(store, version.name).get(alias)
        set_alias(store, version.name, alias, str(version.version))
    return version, before


def set_alias(store: Store, name: str, alias: str, version: str) -> None:
    """Move an alias to a version."""
    retry_on_conflict(lambda: store.client.set_registered_model_alias(name, alias, version))


def point_best(store: Store, name: str) -> None:
    """Put the alias `best` on the version with the highest validation accuracy; ties: the older.

    Experiments take no part.
    """
    # Look again after each move: another machine may have added a better version meanwhile, and
    # moved the alias first. Versions are only ever added, so this ends.
    while (best := _best(store, name)) not in (None, versions_by_alias(store, name).get(BEST)):
        set_alias(store, name, BEST, str(best))


def point_current(store: Store, name: str, version: int) -> bool:
    """Let a name mean one of its versions; return whether it meant another one before."""
    before = versions_by_alias(store, name).get(CURRENT)
    if before != version:
        set_alias(store, name, CURRENT, str(version))
    return before not in (None, version)


def _best(store: Store, name: str) -> int | None:
    ranked = [
        (accuracy, -int(version.version))
        for version in versions_of(store, name)
        if DIGEST in version.tags
        and EXPERIMENT not in version.tags
        and (accuracy := number_of(float, version.tags.get(RANKING))) is not None
    ]
    return -max(ranked)[1] if ranked else None


def tag(
    store: Store, reference: str, values: Mapping[str, str], remove: Sequence[str] = ()
) -> dict[str, str]:
    """Set and remove tags of a version; all are checked before the first is sent.

    Returns:
        The tags that people have set on it, after the change.

    Raises:
        UserError: a key or value is not allowed, a tag to remove does not exist, or there is no
            such version.
    """
    for key, value in values.items():
        _check_tag(key, value)
    version = find_registered(store, reference)
    name, number, tags = version.name, str(version.version), own_tags(version.tags)
    if absent := [key for key in remove if key not in tags]:
        shown = ", ".join(sorted(tags)) or "none"
        raise UserError(f"{reference} has no tag {absent[0]!r} to remove; it has: {shown}")
    with store.translate_mlflow_errors():
        for key, value in values.items():
            store.client.set_model_version_tag(name, number, key, value)
        for key in remove:
            store.client.delete_model_version_tag(name, number, key)
    return {key: value for key, value in (tags | dict(values)).items() if key not in remove}


def describe(store: Store, reference: str, text: str | None = None) -> str:
    """Return a version's description, or replace it by a text (Markdown) and return that.

    Raises:
        UserError: the text is too long, or there is no such version.
    """
    if text is not None and len(text) > LONGEST:
        raise UserError(f"description: expected at most {LONGEST:,} characters, got {len(text):,}")
    version = find_registered(store, reference)
    if text is None:
        return version.description or ""
    with store.translate_mlflow_errors():
        store.client.update_model_version(version.name, str(version.version), text)
    return text


def _check_tag(key: str, value: str) -> None:
    if not re.fullmatch(KEY, key):
        raise UserError(f"tag {key!r}: expected up to 250 letters, digits and . _ - as its key")
    if key.startswith(RESERVED) or key in FIELDS:
        raise UserError(
            f"tag {key!r}: names that begin with {' or '.join(RESERVED)} and the fields of "
            f"`zoo list` ({', '.join(FIELDS)}) are taken; choose another"
        )
    if not value or len(value) > LONGEST:
        raise UserError(
            f"tag {key}: expected 1 to {LONGEST:,} characters, got {len(value):,}; "
            f"--remove {key} removes it"
        )
