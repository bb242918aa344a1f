"""What a training run keeps of a finished model: files, metrics and the digests of its data."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion

from zoo.config import variant_key
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files import write_text
from zoo.models.spec import SPEC, WEIGHTS, ModelSpec, model_digest
from zoo.registry import runs
from zoo.registry.artifacts import local_folder, missing_files
from zoo.registry.card import CARD, model_card
from zoo.registry.datasets import dataset_input, training_data
from zoo.registry.flavor import MODEL_FILES, write_flavor
from zoo.registry.history import History, Point, digests
from zoo.registry.lookup import DIGEST, MODEL_ID
from zoo.registry.store import TRAIN, Store

HISTORY = "zoo.history"
NEEDED = ("MLmodel", f"{MODEL_FILES}/{SPEC}", f"{MODEL_FILES}/{WEIGHTS}")
CONTEXTS = {"train": "training", "validation": "validation", "test": "testing"}


@dataclass(frozen=True)
class TrainedModel:
    """A model's folder and what is in it; an image of the test split becomes its example."""

    folder: Path
    spec: ModelSpec
    digest: str
    history: History
    test_folder: Path | None


def model_tags(spec: ModelSpec, digest: str) -> dict[str, str]:
    """Return the tags by which models are listed and found; version, model and run have them."""
    known: dict[str, Any] = {
        "name": spec.name,
        "arch": spec.arch,
        "subset": spec.subset,
        "source": spec.source,
        "seed": spec.known_seed,
        "parameters": spec.parameters,
        "test_accuracy": spec.metrics.get("test/accuracy"),
        "validation_accuracy": spec.metrics.get("validation/accuracy"),
        "subset_digest": spec.subset_digest,
        "test_digest": spec.test_digest,
        "sha256": digest,
        "origin": spec.origin.get("source"),
        "url": spec.origin.get("url"),
        "licence": spec.origin.get("licence"),
    }
    return {f"zoo.{key}": str(value) for key, value in known.items() if value not in {None, ""}}


def find_run(store: Store, model: TrainedModel) -> Run | None:
    """Find this model's run: begun by a killed process, or logged while it trained."""
    begun = _available(store, runs.search_runs(store, TRAIN, sha256=model.digest))
    if begun:
        return begun[0]
    free = _unregistered(store, model.spec)
    if live := _logged_live(free, model.history):
        return live
    # If the server went away before the first epoch, the run has only a name and settings.
    return next((run for run in free if _is_empty_run_of(run, model.spec)), None)


def find_doubles(store: Store, model: TrainedModel, version: ModelVersion) -> list[Run]:
    """Find runs of this place that a registered model has besides its version's own.

    They were begun by a killed `register`, or logged while the same weights were trained again.
    """
    found = runs.search_runs(store, TRAIN, sha256=model.digest)
    doubles = [run for run in found if not runs.is_finished(run)]
    if live := _logged_live(_unregistered(store, model.spec), model.history):
        doubles.append(live)
    return [
        run
        for run in doubles
        if run.info.run_id != version.run_id and run.data.tags.get(runs.PLACE) == store.place
    ]


def _unregistered(store: Store, spec: ModelSpec) -> list[Run]:
    named = _available(store, runs.search_runs(store, TRAIN, name=spec.name))
    return [run for run in named if DIGEST not in run.data.tags]


def _logged_live(found: Sequence[Run], history: History) -> Run | None:
    """Return the run that was logged while a model with this history was trained."""
    live = {run.data.tags.get(HISTORY, ""): run for run in reversed(found)}  # the first one wins
    known = reversed(digests(history.epochs))
    return next((live[digest] for digest in known if digest in live), None)


def _available(store: Store, found: Sequence[Run]) -> list[Run]:
    """Return this place's runs, then the finished ones of others.

    Another place may still be working on an unfinished run: two that complete it at the same time
    would both add what it lacks.
    """
    own = [run for run in found if run.data.tags.get(runs.PLACE) == store.place]
    return own + [run for run in found if run not in own and runs.is_finished(run)]


def _is_empty_run_of(run: Run, spec: ModelSpec) -> bool:
    settings = {key: str(value) for key, value in runs.flat(spec.training).items()}
    return (
        HISTORY not in run.data.tags
        and not runs.is_finished(run)
        and run.info.run_name == variant_key(spec.name, spec.seed)
        and all(settings.get(key, value) == value for key, value in run.data.params.items())
    )


def log_data(store: Store, run_id: str, spec: ModelSpec) -> None:
    """Record which data it was trained, validated and tested on, by name and digest."""
    data = [dataset_input(data, CONTEXTS[part]) for part, data in training_data(spec).items()]
    runs.log_inputs(store, run_id, data)


def log_model(store: Store, run: Run, model: TrainedModel) -> tuple[str, str]:
    """Log the run's model unless it is logged; finish one that a killed process began.

    Returns:
        Its id in MLflow, and the address of its files.
    """
    client, run_id, spec = store.client, run.info.run_id, model.spec
    tags, digest = model_tags(spec, model.digest), runs.quoted(model.digest)
    mine = f"source_run_id = {runs.quoted(run_id)} and tags.`{DIGEST}` = {digest}"
    begun = client.search_logged_models([run.info.experiment_id], mine)
    logged = (
        begun[0]
        if begun
        else client.create_logged_model(
            run.info.experiment_id,
            spec.name.replace(".", "-"),  # MLflow takes no dots
            run_id,
            tags,
            {"arch": spec.arch, "subset": spec.subset, "seed": tags.get("zoo.seed", "")},
            spec.arch,
        )
    )
    model_id = logged.model_id
    outputs = run.outputs.model_outputs if run.outputs else []
    if model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    if logged.status != LoggedModelStatus.READY:
        _upload(store, model, model_id, run_id)
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return model_id, logged.artifact_location


def log_final(store: Store, run_id: str, model_id: str, model: TrainedModel) -> None:
    """Log the finished model's metrics, on the run and on the model, under `weights/`.

    The curves of the training have the same names without it, and were measured in training mode
    or in another precision. MLflow sorts by name, so it shows the curves first, then these as bars.
    """
    data = training_data(model.spec)
    points = [
        Point(f"weights/{key}", value, 0, model_id, data.get(key.partition("/")[0]))
        for key, value in model.spec.metrics.items()
    ]
    runs.log_points(store, run_id, runs.missing_points(store, run_id, points))


def restore_lost_files(store: Store, model: TrainedModel, version: ModelVersion) -> bool:
    """Upload a version's files again if some are lost or damaged; say whether some were.

    On this machine every byte is checked, elsewhere the size.
    """
    address = store.client.get_model_version_download_uri(version.name, version.version)
    sizes = {
        f"{MODEL_FILES}/{name}": (model.folder / name).stat().st_size for name in (SPEC, WEIGHTS)
    }
    here = local_folder(address)
    if not missing_files(store, address, NEEDED, sizes) and (
        here is None or model_digest(here / MODEL_FILES) == model.digest
    ):
        return False
    model_id = version.tags.get(MODEL_ID)
    if model_id is None:
        raise UserError(
            f"{version.name}/{version.version} has lost its files and was not registered by zoo: "
            "delete that version, then register again"
        )
    _upload(store, model, model_id, version.run_id or "")
    return True


def _upload(store: Store, model: TrainedModel, model_id: str, run_id: str) -> None:
    example = None if model.test_folder is None else load_subset(model.test_folder).images[:1]
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "model"
        write_flavor(
            model.folder, target, model.spec, model.digest,
            example=example, run_id=run_id, model_id=model_id, model_uuid=model_id,
        )  # fmt: skip
        write_text(target / CARD, model_card(model.spec, model.digest))
        store.client.log_model_artifacts(model_id, str(target))
