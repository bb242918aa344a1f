"""What is in the registry, a row a version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from zoo.registry.lookup import DIGEST, all_names, all_versions
from zoo.registry.store import Store

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class VersionRow:
    """A registered version of zoo's flavor; None where a number was not recorded."""

    name: str
    version: int
    aliases: tuple[str, ...]
    arch: str
    source: str
    subset: str
    seed: int | None
    parameters: int | None
    test_accuracy: float | None
    validation_accuracy: float | None
    digest: str
    created: datetime
    run_id: str


def list_versions(store: Store) -> list[VersionRow]:
    """Return every version that zoo registered, by name and version.

    Versions of other flavors are left out. It takes two searches, page by page, however many
    versions there are.
    """
    with store.explained():
        versions = [v for v in all_versions(store) if DIGEST in v.tags]
        names = all_names(store)
    aliases: dict[tuple[str, int], list[str]] = {}
    for model in names:
        for alias, version in model.aliases.items():
            aliases.setdefault((model.name, int(version)), []).append(alias)
    rows = []
    for version in versions:
        tags, number = version.tags, int(version.version)
        rows.append(
            VersionRow(
                name=version.name,
                version=number,
                aliases=tuple(sorted(aliases.get((version.name, number), []))),
                arch=tags.get("zoo.arch", ""),
                source=tags.get("zoo.source", ""),
                subset=tags.get("zoo.subset", ""),
                seed=_number(int, tags.get("zoo.seed")),
                parameters=_number(int, tags.get("zoo.parameters")),
                test_accuracy=_number(float, tags.get("zoo.test_accuracy")),
                validation_accuracy=_number(float, tags.get("zoo.validation_accuracy")),
                digest=tags[DIGEST],
                created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
                run_id=version.run_id or "",
            )
        )
    return sorted(rows, key=lambda row: (row.name, row.version))


def _number(kind: type[N], text: str | None) -> N | None:
    """Read a tag, which anyone can edit in the UI."""
    try:
        return None if text is None else kind(text)
    except ValueError:
        return None
