"""Removing a version or a model from the registry, after saying what would dangle.

Only the registered version is removed: its training run, files, test images and comparisons stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from zoo.errors import UserError, counted
from zoo.models.spec import SPEC, model_digest
from zoo.registry.annotations import find_registered
from zoo.registry.comparisons import TITLE
from zoo.registry.listing import own_tags
from zoo.registry.lookup import DIGEST, all_versions, versions_by_alias, versions_of
from zoo.registry.references import parse
from zoo.registry.runs import search_runs
from zoo.registry.store import COMPARE, TRAIN, Store
from zoo.registry.verify import pipeline_models


@dataclass(frozen=True)
class Removal:
    """Versions to remove, or a whole model; `dangling` holds pairs (what it is, which one)."""

    name: str
    versions: tuple[int, ...]
    whole: bool
    dangling: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        """Say what is removed."""
        if not self.whole:
            return f"{self.name}/{self.versions[0]}"
        return f"{self.name} with {counted(len(self.versions), 'version')}"


def plan_removal(store: Store, reference: str, *, whole: bool = False) -> Removal:
    """Say what would be removed and what would dangle; nothing is changed.

    A reference is `NAME/3` or `NAME@alias`, or with `whole` the `NAME` of a model that is removed
    with all its versions.

    Raises:
        UserError: there is no such version, or the reference is less exact than that.
    """
    parsed = parse(reference)
    # A model may have only experiments, which its name alone does not mean.
    version = find_registered(store, f"{reference}/latest" if parsed.is_name else reference)
    name, number = version.name, int(version.version)
    if parsed.is_name != whole:
        raise UserError(
            f"{reference} is one version: leave out --all, or name the model alone ({name})"
            if whole
            else f"{reference} is a model: name one version ({name}/{number} is the latest) "
            "or remove all of them with --all"
        )
    with store.translate_mlflow_errors():
        everything = all_versions(store)
        going = [v for v in everything if v.name == name and (whole or int(v.version) == number)]
        if not going:
            raise UserError(
                f"{reference} is no longer among the registry's versions: removed meanwhile, or "
                "the server lists another registry's; ask again"
            )
        staying = [version for version in everything if version not in going]
        dangling = [
            *_aliases(store, name, going),
            *_comparisons(store, going),
            *_descendants(store, going, staying),
            *_outputs(store, going),
        ]
    return Removal(name, tuple(sorted(int(v.version) for v in going)), whole, tuple(dangling))


def remove(store: Store, removal: Removal) -> None:
    """Remove what was planned; `UserError` if the model's versions have changed since."""
    name, client = removal.name, store.client
    with store.translate_mlflow_errors(), store.lock(f"register-{name}"):
        there = {int(v.version) for v in versions_of(store, name)}
        planned = set(removal.versions)
        if there != planned if removal.whole else not planned <= there:
            raise UserError(f"the versions of {name} have changed: nothing is removed; try again")
        if removal.whole:
            client.delete_registered_model(name)
            return
        for version in removal.versions:
            client.delete_model_version(name, str(version))


def _aliases(store: Store, name: str, going: list[ModelVersion]) -> list[tuple[str, str]]:
    numbers = {int(version.version) for version in going}
    aliases = sorted(versions_by_alias(store, name).items())
    return [("alias", f"{name}@{alias}") for alias, number in aliases if number in numbers]


def _comparisons(store: Store, going: list[ModelVersion]) -> list[tuple[str, str]]:
    uris = {f"models:/{version.name}/{version.version}" for version in going}
    return [
        ("comparison", f"{run.data.tags.get(TITLE, run.info.run_name)} (run {run.info.run_id})")
        for run in search_runs(store, COMPARE)
        if uris & set(run.data.tags.get("zoo.models", "").split(", "))
    ]


def _descendants(
    store: Store, going: list[ModelVersion], staying: list[ModelVersion]
) -> list[tuple[str, str]]:
    """Find versions that started from these, or name them in a tag."""
    digests = {version.tags[DIGEST] for version in going if DIGEST in version.tags}
    names = digests | {
        f"{prefix}{version.name}/{version.version}"
        for version in going
        for prefix in ("", "models:/")
    }
    children = {
        run.data.tags.get(DIGEST)
        for run in search_runs(store, TRAIN)
        if run.data.params.get("transferred_from_digest") in digests
    }
    return [
        ("version", f"{version.name}/{version.version}")
        for version in staying
        if version.tags.get(DIGEST) in children or names & set(own_tags(version.tags).values())
    ]


def _outputs(store: Store, going: list[ModelVersion]) -> list[tuple[str, str]]:
    """Find outputs of DVC that the next `zoo register` or `dvc repro` would register again."""
    digests = {version.tags.get(DIGEST) for version in going}
    return [
        ("DVC output", f"models/{key} (`zoo register` and `dvc repro` register it again)")
        for key, folder in pipeline_models(store.root).items()
        if (folder / SPEC).is_file() and model_digest(folder) in digests
    ]
