"""Checking that all that the registry holds is there, intact and loadable."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from zoo.config import load_params
from zoo.errors import NotTrustedError, UserError
from zoo.files import read_json, significant
from zoo.models.spec import model_digest
from zoo.progress import OnProgress, no_progress
from zoo.registry.annotations import find_registered
from zoo.registry.artifacts import fetch_file, missing_files
from zoo.registry.datasets import DIGEST_LENGTH
from zoo.registry.faults import is_missing, is_unreachable, redact
from zoo.registry.flavor import check_flavor
from zoo.registry.history import EPOCHS, STEPS, read_history
from zoo.registry.images import fetch_images
from zoo.registry.lookup import DIGEST, EXPERIMENT, all_versions
from zoo.registry.resolve import load_resolved, resolve
from zoo.registry.runs import is_finished, search_runs
from zoo.registry.store import TEST_IMAGES, Store
from zoo.registry.uploads import NEEDED, model_tags

if TYPE_CHECKING:
    from zoo.models.files import LoadedModel

Kind = Literal["missing", "orphaned", "damaged", "untrusted", "differs"]
RECEIPT = "registered.json"  # by which the pipeline's stages find the models
KEEP_OR_DROP = (
    "`dvc repro` keeps it; `git checkout params.yaml dvc.lock` and `dvc checkout` go back"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `missing`: files or a registration that should be there are not. `orphaned`: a version whose
    lineage does not resolve. `damaged`: there, but not what was registered. `untrusted`: what was
    registered, but it cannot be built without code that this user has not trusted. `differs`: the
    registry, the receipt and models/ do not mean the same model.
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
    """Read every byte of registered versions again, and check what they refer to.

    For a version: its files exist and have the tagged digest, tags and spec agree, it loads
    strictly, its MLmodel describes it, its run exists, names its training data and logged what its
    tables of epochs and steps hold, and its test images are whole. For the project: every variant
    of params.yaml exists and is registered, its name means it, and the receipt names it.

    With `references`, only those versions are checked, and not the project's outputs.

    Raises:
        UserError: there is no such version.
    """
    if references:
        versions = [find_registered(store, reference) for reference in references]
        outputs = {}
    else:
        with store.translate_mlflow_errors():
            ours = [v for v in all_versions(store) if any(key.startswith("zoo.") for key in v.tags)]
        versions = sorted(ours, key=lambda version: (version.name, int(version.version)))
        outputs = pipeline_models(store.root)
    images: dict[str, list[str]] = {}
    for version in versions:
        if digest := version.tags.get("zoo.test_digest"):
            images.setdefault(digest, []).append(_label(version))
    findings: list[Finding] = []
    total = len(versions) + len(images) + len(outputs)
    checks = [partial(_check_version, version=version) for version in versions]
    checks += [partial(_check_images, digest=d, users=users) for d, users in images.items()]
    for done, check in enumerate(checks):
        on_progress(done, total, "checks")
        # In an empty folder: files in the cache would hide that the server has lost them.
        with (
            store.translate_mlflow_errors(),
            tempfile.TemporaryDirectory(prefix="zoo-") as temporary,
        ):
            findings += check(dataclasses.replace(store, root=Path(temporary)))
    findings += _check_outputs(store, outputs, versions)
    on_progress(total, total, "checks")
    return Verified(len(versions), len(images), len(outputs), tuple(findings))


def pipeline_models(root: Path) -> dict[str, Path]:
    """Return the folder of every variant in params.yaml; none outside a project."""
    if not (root / "params.yaml").is_file():
        return {}
    variants = load_params(root / "params.yaml").variants
    return {variant.key: root / "models" / variant.key for variant in variants}


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
            loaded = load_resolved(store, model)
            yield from _check_tags(version, loaded)
            described = fetch_file(store, model.artifacts, "MLmodel", store.root)
            check_flavor(described, loaded.spec, loaded.digest)
    except NotTrustedError as error:  # raised only once the digest was found right
        yield Finding("untrusted", what, str(error))
    except (UserError, OSError) as error:
        if is_unreachable(error):
            raise
        yield Finding("damaged", what, str(error))
    yield from _check_lineage(store, version)


def _check_tags(version: ModelVersion, model: LoadedModel) -> Iterator[Finding]:
    changed = [
        f"{key} is {version.tags.get(key, 'gone')}, was {value}"
        for key, value in model_tags(model.spec, model.digest).items()
        # A missing tag is no damage, except the digest.
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
        again = f"`zoo rm {what}` and then `zoo register` where it was trained make it anew"
        gone = f"its run {run_id or '(none named)'} does not exist"
        yield Finding("orphaned", what, f"{gone}, as after `mlflow gc`; {again}")
        return
    if run.info.lifecycle_stage != "active":
        back = f"`mlflow runs restore --run-id {run_id}` brings it back"
        yield Finding("orphaned", what, f"its run is deleted; {back}")
    wanted = version.tags.get("zoo.subset_digest", "")[:DIGEST_LENGTH]
    named = {i.dataset.digest for i in run.inputs.dataset_inputs} if run.inputs else set()
    if wanted and wanted not in named:
        yield Finding("orphaned", what, f"its run does not name its training data {wanted[:12]}")
    try:
        _check_history(store, run)
    except UserError as error:
        yield Finding("damaged", what, str(error))


def _check_history(store: Store, run: Run) -> None:
    """Raise `UserError` unless a run logged what its tables of epochs and steps hold."""
    address = run.info.artifact_uri
    lost = missing_files(store, address, (EPOCHS, STEPS))
    files = [
        fetch_file(store, address, name, store.root) for name in (EPOCHS, STEPS) if name not in lost
    ]
    points = read_history(files[0].parent).points if files else []
    logged = {
        (metric.key, metric.step): significant(metric.value)
        for key in {point.key for point in points}
        for metric in store.client.get_metric_history(run.info.run_id, key)
    }
    for point in points:
        if (value := logged.get((point.key, point.step))) != point.value:
            raise UserError(
                f"{EPOCHS} or {STEPS} of its run is damaged: {point.key} at {point.step} is "
                f"{point.value:g}, logged was {value}"
            )


def _check_images(store: Store, digest: str, users: Sequence[str]) -> Iterator[Finding]:
    others = f" and {len(users) - 1} more" if len(users) > 1 else ""
    what, who = f"test images {digest[:12]}", f"needed by {users[0]}{others}"
    with store.translate_mlflow_errors():
        if not any(is_finished(run) for run in search_runs(store, TEST_IMAGES, test_digest=digest)):
            how = "`zoo register` where they are brings them"
            yield Finding("orphaned", what, f"not in the registry, {who}; {how}")
            return
    try:
        fetch_images(store, digest)
    except (UserError, OSError) as error:
        if is_unreachable(error):
            raise
        yield Finding("damaged", what, f"{error}; {who}")


def _check_outputs(
    store: Store, outputs: Mapping[str, Path], versions: Sequence[ModelVersion]
) -> Iterator[Finding]:
    """Compare models/ with the registry, the receipt, and the meaning of names."""
    registered = {(version.name, version.tags.get(DIGEST, "")): version for version in versions}
    receipt = _receipt(store.root)
    named: set[str] = set()
    for key, folder in outputs.items():
        what, name = f"models/{key}", key.rpartition("-")[0]
        is_first_seed = name not in named
        named.add(name)
        try:
            if not folder.is_dir():
                yield Finding("missing", what, "not there; `dvc repro` or `dvc pull`")
                continue
            digest = model_digest(folder)
            read_history(folder)  # whether it can be
            version = registered.get((store.registered_name(name), digest))
            if version is None:
                yield Finding("missing", what, "not registered; `zoo register` does it")
            elif experiment := version.tags.get(EXPERIMENT):
                yield Finding("differs", what, f"of the experiment {experiment}; {KEEP_OR_DROP}")
            elif (
                is_first_seed
                and (meant := find_registered(store, version.name))
                and (meant.tags.get(DIGEST) != digest)
            ):
                why = f"version {version.version}, but {version.name} means {meant.version}"
                yield Finding("differs", what, f"{why}; `zoo register` corrects it")
            elif receipt and receipt.get(key) != digest:
                why = f"{RECEIPT} names another model; `dvc repro` corrects it"
                yield Finding("differs", what, why)
        except (UserError, OSError) as error:
            yield Finding("damaged", what, str(error))


def _receipt(root: Path) -> dict[str, str]:
    """Return the digests that the pipeline registered last, if any."""
    if not (root / RECEIPT).is_file():
        return {}
    receipt = read_json(root / RECEIPT, fix="`dvc repro` writes it again")
    return receipt if isinstance(receipt, dict) else {}
