"""Looking up references in the registry; errors say what exists instead."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from zoo.errors import UserError, shown, suggestion
from zoo.registry.artifacts import fetch_file
from zoo.registry.faults import is_missing
from zoo.registry.flavor import FLAVOR, read_flavors
from zoo.registry.references import LATEST, Reference, Resolved, check_digest
from zoo.registry.runs import PAGE, all_pages, quoted
from zoo.registry.store import Store, show_uri

DIGEST = "zoo.sha256"
MODEL_ID = "zoo.model_id"
MODEL = "model"  # in runs:/ID/model: the only one of a run, whatever it is called
CURRENT = "current"  # the alias on the version that a name alone means
EXPERIMENT = "experiment"  # the tag of what `dvc exp run` made; its value is DVC's name for it
SHOWN = 10
LARGEST_VERSION = 2**31 - 1  # the largest number that a database holds

logger = logging.getLogger(__name__)


def look_up(store: Store, reference: Reference) -> Resolved:
    """Find a version, a logged model or a run's model; `UserError` if there is none."""
    with store.translate_mlflow_errors():
        if reference.kind == "version":
            version = get_version(store, reference)
            named = reference.is_name or reference.alias == LATEST
            label = reference.name if named else f"{reference.name}-v{version.version}"
            return _resolved(store, version, reference.text, label)
        model_id = reference.id if reference.kind == "logged" else _model_of_run(store, reference)
        return _logged(store, reference, model_id)


def find_by_digest(store: Store, name: str, digest: str) -> Resolved:
    """Find the version of a registered model with this digest; `UserError` if there is none."""
    with store.translate_mlflow_errors():
        registered = store.registered_name(name)
        version = find_version(store, registered, digest)
        if version is None:
            raise UserError(
                f"{registered}: no version with sha256 {digest[:12]} in {show_uri(store)}; run "
                "`zoo register`"
            )
        return _resolved(store, version, f"{registered}/{version.version}", name)


def find_version(store: Store, name: str, digest: str) -> ModelVersion | None:
    """Return the oldest version of a name with a digest."""
    query = f"name = {quoted(name)} and tags.`{DIGEST}` = {quoted(digest)}"
    found = store.client.search_model_versions(query, max_results=PAGE)
    return min(found, key=lambda version: int(version.version), default=None)


def all_versions(store: Store, query: str = "") -> list[ModelVersion]:
    """Return every registered version that matches a query.

    One whose version is not a number is left out, with a warning.
    """
    found = all_pages(
        lambda token: store.client.search_model_versions(
            query, max_results=PAGE, order_by=["name ASC"], page_token=token
        )
    )
    there = []
    for version in found:
        if _is_number(version.version):
            there.append(version)
        else:
            logger.warning(
                "%s lists version %s of %s, which is not a number: left out",
                show_uri(store), shown(version.version), shown(version.name),
            )  # fmt: skip
    return there


def versions_of(store: Store, name: str) -> list[ModelVersion]:
    """Return every version of a registered model."""
    return all_versions(store, f"name = {quoted(name)}")


def versions_by_alias(store: Store, name: str) -> dict[str, int]:
    """Return the version that each alias of a registered model points at."""
    return numbered(store.client.get_registered_model(name).aliases)


def numbered(aliases: Mapping[str, str | int]) -> dict[str, int]:
    """Return the version that each alias points at, without those that point at no number."""
    return {alias: int(number) for alias, number in aliases.items() if _is_number(number)}


def _is_number(version: object) -> bool:
    """Say whether a version is a number: addresses and file names contain it."""
    return bool(re.fullmatch(r"[0-9]{1,10}", str(version)))


def registered_models(store: Store) -> list[Any]:
    """Return every registered model, with its aliases."""
    return all_pages(
        lambda token: store.client.search_registered_models(max_results=PAGE, page_token=token)
    )


def _registered_name(store: Store, reference: Reference) -> str:
    """Return the registered name: an address holds it, a plain name may be the study's own."""
    exact = reference.text.startswith("models:/")
    return reference.name if exact else store.registered_name(reference.name)


def get_version(store: Store, reference: Reference) -> ModelVersion:
    """Return the version that a reference names; a `UserError` says what exists instead.

    A name alone means the version with the alias `current`, or else the latest one that is not an
    experiment.
    """
    name, client = _registered_name(store, reference), store.client
    if (reference.version or 0) > LARGEST_VERSION:
        raise _not_there(store, reference)
    try:
        if reference.version is not None:
            return _numbered(store, client.get_model_version(name, str(reference.version)))
        if reference.alias != LATEST:
            alias = reference.alias or CURRENT
            return _numbered(store, client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if not is_missing(error):
            raise
        if not reference.is_name:
            raise _not_there(store, reference) from None
    versions = versions_of(store, name)
    tried = [v for v in versions if EXPERIMENT in v.tags and reference.is_name]
    meant = [version for version in versions if version not in tried]
    if not meant:
        raise _not_there(store, reference, tried)
    return max(meant, key=lambda version: int(version.version))


def _numbered(store: Store, version: ModelVersion) -> ModelVersion:
    if not _is_number(version.version):
        raise UserError(
            f"{show_uri(store)} answers with a version {shown(version.version)} of "
            f"{shown(version.name)}: expected a number"
        )
    return version


def _not_there(store: Store, reference: Reference, tried: Sequence[ModelVersion] = ()) -> UserError:
    name = _registered_name(store, reference)
    if tried:
        number = max(int(version.version) for version in tried)
        return UserError(
            f"{name} has only experiments, which a bare name never means: expected one of its "
            f"versions, such as {name}/{number}"
        )
    names = {model.name: model for model in registered_models(store)}
    where = show_uri(store)
    if name not in names:
        if not names:
            hint = " nothing is registered; train and register with `make repro`"
        else:
            more = ", …" if len(names) > SHOWN else ""
            listed = ", ".join(sorted(names)[:SHOWN]) + more
            hint = f"{suggestion(name, names)} registered: {listed}"
        return UserError(f"no model {name!r} in {where};{hint}")
    if reference.alias:
        aliases = ", ".join(sorted(names[name].aliases)) or "none"
        return UserError(f"{name} has no alias {reference.alias!r}; it has: {aliases}")
    versions = sorted(int(v.version) for v in versions_of(store, name))
    last = ", ".join(map(str, versions[-SHOWN:])) or "none"
    few = f"the last {SHOWN} of {len(versions)}: " if len(versions) > SHOWN else ""
    return UserError(f"{name} has no version {reference.version}; it has {few}{last}")


def _resolved(store: Store, version: ModelVersion, text: str, label: str) -> Resolved:
    number = int(version.version)
    artifacts = store.client.get_model_version_download_uri(version.name, str(number))
    return Resolved(
        text,
        "version",
        version.name,
        label=label,
        digest=_digest(store, version.tags, artifacts, text),
        version=number,
        run_id=version.run_id or "",
        model_id=version.tags.get(MODEL_ID, ""),
        artifacts=artifacts,
        tags=dict(version.tags),
    )


def _logged(store: Store, reference: Reference, model_id: str) -> Resolved:
    try:
        model = store.client.get_logged_model(model_id)
    except MlflowException as error:
        if is_missing(error):
            raise UserError(f"no model {reference.text!r} in {show_uri(store)}") from None
        raise
    artifacts = model.artifact_location
    name = model.tags.get("zoo.name", model.name)
    return Resolved(
        reference.text,
        reference.kind,
        name,
        label=name,
        digest=_digest(store, model.tags, artifacts, reference.text),
        run_id=model.source_run_id or "",
        model_id=model_id,
        artifacts=artifacts,
        tags=dict(model.tags),
    )


def _model_of_run(store: Store, reference: Reference) -> str:
    try:
        run = store.client.get_run(reference.id)
    except MlflowException as error:
        if is_missing(error):
            raise UserError(f"no run {reference.id} in {show_uri(store)}") from None
        raise
    outputs = run.outputs.model_outputs if run.outputs else []
    names = {}
    for output in sorted(outputs, key=lambda output: output.step):
        names[store.client.get_logged_model(output.model_id).name] = output.model_id
    if reference.name == MODEL and len(names) == 1:
        return next(iter(names.values()))
    if reference.name not in names:
        known = ", ".join(sorted(names)) or "none"
        raise UserError(f"run {reference.id} has no model {reference.name!r}; it has: {known}")
    return names[reference.name]


def _digest(store: Store, tags: Mapping[str, str], artifacts: str, text: str) -> str:
    """Return a model's digest from its tags or its MLmodel file; refuse other flavors."""
    where = f"{text}: tag {DIGEST}"
    if digest := tags.get(DIGEST):
        return check_digest(digest, where)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            flavors = read_flavors(fetch_file(store, artifacts, "MLmodel", temporary))
        except UserError as error:
            raise UserError(f"{text} was not saved by zoo: {error}") from None
    kinds = [name for name in flavors if name != "python_function"] or list(flavors)
    if FLAVOR not in flavors:
        raise UserError(
            f"{text} is a model of another flavor ({', '.join(kinds) or 'none named'}): zoo loads "
            "only its own, which are registered with `zoo register`"
        )
    return check_digest(str(flavors[FLAVOR].get("digest", "")), where)
