"""What is in the registry, one row per version."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from zoo.registry import lookup
from zoo.registry.lookup import DIGEST, EXPERIMENT, all_versions, registered_models, versions_of
from zoo.registry.references import Resolved
from zoo.registry.store import Store

N = TypeVar("N", int, float)
RESERVED = ("zoo.", "mlflow.")


@dataclass(frozen=True)
class VersionRow:
    """A registered version of zoo's flavor; None where a number was not recorded.

    `experiment` is DVC's name for the experiment that made it; empty for the study's own.

    `tags` are those that people set, without zoo's and MLflow's own.
    """

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
    tags: dict[str, str]
    experiment: str = ""


def list_versions(store: Store) -> list[VersionRow]:
    """Return every version that zoo registered, by name and version.

    Versions of other flavors are left out. It takes two paged searches, however many
    versions there are.
    """
    with store.translate_mlflow_errors():
        versions = [v for v in all_versions(store) if DIGEST in v.tags]
        names = registered_models(store)
    aliases: dict[tuple[str, int], list[str]] = {}
    for model in names:
        for alias, number in lookup.numbered(model.aliases).items():
            aliases.setdefault((model.name, number), []).append(alias)
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
                seed=number_of(int, tags.get("zoo.seed")),
                parameters=number_of(int, tags.get("zoo.parameters")),
                test_accuracy=number_of(float, tags.get("zoo.test_accuracy")),
                validation_accuracy=number_of(float, tags.get("zoo.validation_accuracy")),
                digest=tags[DIGEST],
                created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
                run_id=version.run_id or "",
                tags=own_tags(tags),
                experiment=tags.get(EXPERIMENT, ""),
            )
        )
    return sorted(rows, key=lambda row: (row.name, row.version))


def aliases_of(store: Store, model: Resolved) -> list[str]:
    """Return the aliases of a version; none for anything else."""
    if model.version is None:
        return []
    with store.translate_mlflow_errors():
        aliases = lookup.versions_by_alias(store, model.name)
    return sorted(alias for alias, number in aliases.items() if number == model.version)


def newer_versions(store: Store, model: Resolved) -> dict[int, str]:
    """Return the versions after a model's, each with the experiment that made it, if any."""
    with store.translate_mlflow_errors():
        versions = versions_of(store, model.name)
    numbered = {int(version.version): version.tags.get(EXPERIMENT, "") for version in versions}
    return {n: numbered[n] for n in sorted(numbered) if model.version and n > model.version}


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that people set: neither zoo's nor MLflow's own."""
    return {
        key: value
        for key, value in tags.items()
        if not key.startswith(RESERVED) and key != EXPERIMENT
    }


def number_of(kind: type[N], text: str | None) -> N | None:
    """Return the number in a tag, which anyone can edit in the UI; None where there is none."""
    try:
        number = kind(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
