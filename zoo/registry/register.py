"""Registering models, once each, despite earlier kills and concurrent processes.

A version is created last and in one request, so whenever there is one, all that it needs is there.
After a kill before that, the same command finds the run and adds what it lacks.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from zoo.config import Params, variant_key
from zoo.data.subsets import load_subset
from zoo.models.spec import SPEC, ModelSpec, model_digest, read_spec
from zoo.progress import OnProgress, no_progress
from zoo.registry import runs, uploads
from zoo.registry.annotations import point_best, point_current
from zoo.registry.card import model_card, name_card
from zoo.registry.experiments import note_experiment, noted_experiment
from zoo.registry.history import EPOCHS, STEPS, read_history
from zoo.registry.images import store_images
from zoo.registry.lookup import EXPERIMENT, MODEL_ID, find_version
from zoo.registry.references import check_name
from zoo.registry.store import TRAIN, Store

if TYPE_CHECKING:
    from zoo.models.imported import ImportOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A registered version: `created` just now, or its lost files `restored`, or neither.

    `experiment` is DVC's name for the experiment that made it; empty for the study's own. `moved`
    says that its name meant another version before.
    """

    name: str
    version: int
    digest: str
    created: bool
    restored: bool = False
    experiment: str = ""
    moved: bool = False


def register_study(
    store: Store,
    params: Params,
    models: Path,
    *,
    test_folder: Path | None = None,
    experiment: str = "",
    keep: bool = False,
    on_progress: OnProgress = no_progress,
) -> list[Registered]:
    """Register every variant of a study; each name then means its variant of the first seed.

    For an experiment, no alias moves. With `keep`, versions that an experiment registered become
    the study's own; otherwise they remain the experiment's, and names keep their meaning.

    `models` is the folder of the trained models, such as `vit-small-0`; for other arguments and
    errors see `register`.
    """
    registered = []
    for done, variant in enumerate(params.variants):
        on_progress(done, len(params.variants), "models")
        entry = register(
            store,
            models / variant.key,
            test_folder=test_folder,
            experiment=experiment,
            keep=keep,
        )
        if not experiment and not entry.experiment and variant.seed == params.study.seeds[0]:
            with store.translate_mlflow_errors():
                moved = point_current(store, entry.name, entry.version)
            entry = replace(entry, moved=moved)
        registered.append(entry)
    on_progress(len(registered), len(registered), "models")
    return registered


def register(
    store: Store,
    folder: Path,
    *,
    test_folder: Path | None = None,
    experiment: str = "",
    keep: bool = False,
) -> Registered:
    """Register a trained model as a version of its name, unless it is registered.

    It is loaded first: a version that cannot be loaded must not become the latest.

    Args:
        folder: holds `spec.json`, `model.safetensors` and, if known, `epochs.csv` and
            `steps.csv`.
        test_folder: the test split; one of its images becomes the example, and the card gives
            its size.
        experiment: DVC's name for the experiment that trained it, a tag of the new version; if
            empty, the name recorded at training.
        keep: it belongs to no experiment, whatever a tag or record says.

    Raises:
        UserError: the folder does not load, or MLflow does not accept the name.
    """
    spec = read_spec(folder / SPEC)
    name, digest = check_name(store.registered_name(spec.name)), model_digest(folder)
    if keep:
        note_experiment(store.root, digest, "")
    experiment = experiment or noted_experiment(store.root, digest)
    if test_folder is not None and load_subset(test_folder).info.digest != spec.test_digest:
        logger.warning(
            "%s was not tested on %s: registered without images to compare on; name its own "
            "test split by --test",
            folder,
            test_folder,
        )
        test_folder = None
    model = uploads.TrainedModel(folder, spec, digest, read_history(folder), test_folder)
    with store.translate_mlflow_errors(), store.lock(f"register-{name}"):
        version = find_version(store, name, digest)
        created = version is None
        if created:
            from zoo.models.files import load_model  # torch, not needed if it is registered

            load_model(folder)
        if test_folder is not None:
            store_images(store, test_folder)
        if version is None:
            version = _create(store, name, model, {EXPERIMENT: experiment} if experiment else {})
        # Also for a new version: its model may have been logged before, and lost its files since.
        restored = uploads.restore_lost_files(store, model, version)
        if restored:
            logger.warning(
                "%s version %s: its files were lost or damaged; restored from %s",
                name,
                version.version,
                folder,
            )
        if not created:
            for run in uploads.find_doubles(store, model, version):
                store.client.delete_run(run.info.run_id)
        made_by = version.tags.get(EXPERIMENT, "")
        if made_by and keep:
            store.client.delete_model_version_tag(name, version.version, EXPERIMENT)
            made_by = ""
        point_best(store, name)
    return Registered(name, int(version.version), digest, created, restored, made_by)


def import_registered(
    store: Store, source: str, name: str, given: ImportOptions
) -> tuple[Registered, tuple[str, ...]]:
    """Import a model and register it, unless it is registered under that name.

    The user's own factory that made it is trusted from then on, in this project and with these
    arguments: this user asked for it.

    Returns:
        The version, and notes: what was assumed, and whether an answer depends on chance or on
        other images of the batch.

    Raises:
        UserError: see `zoo.models.imported.import_model` and `register`.
    """
    from zoo.models.factories import is_factory, trust
    from zoo.models.files import save_model
    from zoo.models.imported import import_model
    from zoo.study.answers import name_if_varying

    check_name(name)
    imported = import_model(source, name, given)
    if is_factory(source):
        trust(source, imported.spec.kwargs)
    notes = (*imported.notes, *name_if_varying(name, imported.module, imported.spec))
    with tempfile.TemporaryDirectory(prefix="zoo-") as temporary:
        folder = Path(temporary) / name
        save_model(folder, imported.module, imported.spec)
        return register(store, folder), notes


def _create(
    store: Store, name: str, model: uploads.TrainedModel, extra: dict[str, str]
) -> ModelVersion:
    from zoo.registry.pictures import log_learning_curve  # matplotlib, which most calls do without

    client, spec, tags = store.client, model.spec, uploads.model_tags(model.spec, model.digest)
    seconds = sum(row.get("seconds", 0) for row in model.history.epochs)
    run = uploads.find_run(store, model) or runs.begin_run(
        store, TRAIN, variant_key(spec.name, spec.seed), tags, "zoo register", seconds=seconds
    )
    run_id = run.info.run_id
    card = model_card(spec, model.digest)
    noted = {**tags, "mlflow.note.content": card}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in noted.items()])
    runs.log_params(store, run, _params(spec))
    runs.log_points(store, run_id, runs.missing_points(store, run_id, model.history.points))
    uploads.log_data(store, run_id, spec)
    for file in (EPOCHS, STEPS):
        if (model.folder / file).is_file():
            client.log_artifact(run_id, str(model.folder / file))
    log_learning_curve(store, run, model.history, f"{name}, seed {spec.seed}")
    model_id, artifacts = uploads.log_model(store, run, model)
    uploads.log_final(store, run_id, model_id, model)
    if not runs.is_finished(run):
        # A run lasts as long as its training; without a history, until now.
        ended = run.info.start_time + int(seconds * 1000) if seconds else None
        client.set_terminated(run_id, runs.FINISHED, end_time=ended)
    _ensure_name(store, name, spec)
    version = client.create_model_version(
        name, artifacts, run_id, tags={**tags, **extra, MODEL_ID: model_id}, description=card,
        model_id=model_id,
    )  # fmt: skip
    version = _only_one(store, version, model.digest)
    link = json.dumps([{"name": name, "version": int(version.version)}])
    client.set_logged_model_tags(version.tags[MODEL_ID], {"mlflow.modelVersions": link})
    return version


def _params(spec: ModelSpec) -> dict[str, Any]:
    return {
        **spec.training,
        "arch": spec.arch,
        "kwargs": spec.kwargs,
        "image_size": spec.image_size,
        "subset": spec.subset,
        "subset_count": spec.subset_count,
        "seed": "" if spec.known_seed is None else spec.known_seed,
        "environment": spec.environment,
    }


def _ensure_name(store: Store, name: str, spec: ModelSpec) -> None:
    try:
        store.client.create_registered_model(
            name,
            {"zoo.arch": spec.arch, "zoo.subset": spec.subset or "none"},
            name_card(spec, name),
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _only_one(store: Store, version: ModelVersion, digest: str) -> ModelVersion:
    """Return the oldest version with a digest; remove this one if another machine was first."""
    oldest = find_version(store, version.name, digest)
    if oldest is None or int(oldest.version) == int(version.version):
        return version
    store.client.delete_model_version(version.name, version.version)
    if version.tags[MODEL_ID] != oldest.tags[MODEL_ID]:
        store.client.delete_logged_model(version.tags[MODEL_ID])
    if version.run_id and version.run_id != oldest.run_id:
        store.client.delete_run(version.run_id)
    return oldest
