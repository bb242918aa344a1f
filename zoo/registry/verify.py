"""Is everything that the registry promises still there, whole, and loadable?"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from zoo.config import load_params
from zoo.errors import UserError
from zoo.models.spec import model_digest
from zoo.progress import OnProgress, no_progress
from zoo.registry.annotations import find_registered
from zoo.registry.artifacts import missing_files
from zoo.registry.faults import is_missing, is_unreachable, redact
from zoo.registry.images import fetch_images
from zoo.registry.lookup import DIGEST, all_versions
from zoo.registry.resolve import load_resolved, resolve
from zoo.registry.runs import is_finished, search_runs
from zoo.registry.store import DATA as IMAGES
from zoo.registry.store import Store
from zoo.registry.uploads import DATASET_DIGEST, NEEDED, model_tags

if TYPE_CHECKING:
    from zoo.models.files import LoadedModel

Kind = Literal["missing", "orphaned", "damaged"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    `missing`: files or a registration that should be there are not. `orphaned`: a version whose
    lineage does not resolve. `damaged`: there, but not what was registered.
    """

    kind: Kind
    what: str
    why: str


@dataclass(frozen=True)
class Verified:
    """How many versions, test splits and DVC outputs were looked at, and what was found."""

    versions: int
    images: int
    outputs: int
    findings: tuple[Finding, ...]


def verify(
    store: Store, references: Sequence[str] = (), *, on_progress: OnProgress = no_progress
) -> Verified:
    """Read every byte of registered versions again, and follow what they name.

    Of a version: its files are there, their digest is that of the tag, tags and spec agree, it
    loads strictly, its run exists and names its training data, its test images are whole. Of
    the project: every variant of params.yaml is there and registered.

    Args:
        store: what to check.
        references: these versions alone, without the project's outputs; all by default.
        on_progress: is told of every check.

    Raises:
        UserError: no such version, or MLflow does not answer.
    """
    if references:
        versions = [find_registered(store, reference) for reference in references]
        outputs = {}
    else:
        with store.translate_mlflow_errors():
            ours = [version for version in all_versions(store) if _is_ours(version)]
        versions = sorted(ours, key=lambda version: (version.name, int(version.version)))
        outputs = pipeline_models(store.root)
    images: dict[str, list[str]] = {}
    for version in versions:
        if digest := version.tags.get("zoo.test_digest"):
            images.setdefault(digest, []).append(_label(version))
    findings: list[Finding] = []
    total = len(versions) + len(images) + len(outputs)
    checks = itertools.chain(
        (functools.partial(_check_version, version=version) for version in versions),
        (functools.partial(_check_images, digest=d, users=users) for d, users in images.items()),
    )
    for done, check in enumerate(checks):
        on_progress(done, total, "checks")
        # What comes from a server is fetched afresh: the cache would hide that it is gone there.
        with (
            store.translate_mlflow_errors(),
            tempfile.TemporaryDirectory(prefix="zoo-") as temporary,
        ):
            findings += check(dataclasses.replace(store, root=Path(temporary)))
    findings += _check_outputs(outputs, {version.tags.get(DIGEST) for version in versions})
    on_progress(total, total, "checks")
    return Verified(len(versions), len(images), len(outputs), tuple(findings))


def pipeline_models(root: Path) -> dict[str, Path]:
    """Return the folder of every variant that params.yaml asks for; none outside a project."""
    if not (root / "params.yaml").is_file():
        return {}
    variants = load_params(root / "params.yaml").variants
    return {f"{m}-{s}-{seed}": root / "models" / f"{m}-{s}-{seed}" for m, s, seed in variants}


def _is_ours(version: ModelVersion) -> bool:
    return any(key.startswith("zoo.") for key in version.tags)


def _label(version: ModelVersion) -> str:
    return f"{version.name}/{version.version}"


def _check_version(store: Store, version: ModelVersion) -> Iterator[Finding]:
    what = _label(version)
    try:
        model = resolve(store, what)
        if missing := missing_files(store, model.artifacts, NEEDED):
            where = redact(model.artifacts)
            yield Finding("missing", what, f"{', '.join(missing)} not in {where}")
        else:
            yield from _check_tags(version, load_resolved(store, model))
    except (UserError, OSError) as error:
        if is_unreachable(error):
            raise
        yield Finding("damaged", what, str(error))
    yield from _check_lineage(store, version)


def _check_tags(version: ModelVersion, model: LoadedModel) -> Iterator[Finding]:
    changed = [
        f"{key} is {version.tags.get(key, 'gone')}, was {value}"
        for key, value in model_tags(model.spec, model.digest).items()
        # Only the digest must be there: a version may be older than another tag.
        if version.tags.get(key, "" if key == DIGEST else value) != value
    ]
    if changed:
        yield Finding("damaged", _label(version), f"tags were changed: {'; '.join(changed)}")


def _check_lineage(store: Store, version: ModelVersion) -> Iterator[Finding]:
    what, run_id = _label(version), version.run_id or ""
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        yield Finding("orphaned", what, f"its run {run_id or '(none named)'} does not exist")
        return
    if run.info.lifecycle_stage != "active":
        back = f"`mlflow runs restore --run-id {run_id}` brings it back"
        yield Finding("orphaned", what, f"its run is deleted; {back}")
    wanted = version.tags.get("zoo.subset_digest", "")[:DATASET_DIGEST]
    named = {i.dataset.digest for i in run.inputs.dataset_inputs} if run.inputs else set()
    if wanted and wanted not in named:
        yield Finding("orphaned", what, f"its run does not name its training data {wanted[:12]}")


def _check_images(store: Store, digest: str, users: Sequence[str]) -> Iterator[Finding]:
    others = f" and {len(users) - 1} more" if len(users) > 1 else ""
    what, who = f"test images {digest[:12]}", f"needed by {users[0]}{others}"
    with store.translate_mlflow_errors():
        if not any(is_finished(run) for run in search_runs(store, IMAGES, test_digest=digest)):
            how = "`zoo register` where they are brings them"
            yield Finding("orphaned", what, f"not in the registry, {who}; {how}")
            return
    try:
        fetch_images(store, digest)
    except (UserError, OSError) as error:
        if is_unreachable(error):
            raise
        yield Finding("damaged", what, f"{error}; {who}")


def _check_outputs(outputs: dict[str, Path], registered: set[str | None]) -> Iterator[Finding]:
    for key, folder in outputs.items():
        try:
            if not folder.is_dir():
                yield Finding("missing", f"models/{key}", "not there; `dvc repro` or `dvc pull`")
            elif model_digest(folder) not in registered:
                yield Finding("missing", f"models/{key}", "not registered; `zoo register` does it")
        except (UserError, OSError) as error:
            yield Finding("damaged", f"models/{key}", str(error))
