"""Audits of measures on registered models, kept as MLflow runs that comparisons read."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import Settings
from zoo.errors import UserError
from zoo.files import write_json
from zoo.files.folders import check_replaceable, replacing_folder
from zoo.progress import OnProgress, no_progress
from zoo.registry import runs
from zoo.registry.comparisons import metric_name
from zoo.registry.history import Point
from zoo.registry.images import labelled_images
from zoo.registry.listing import list_versions
from zoo.registry.references import Resolved
from zoo.registry.resolve import load_resolved, resolve
from zoo.registry.seeds import other_seeds
from zoo.registry.store import AUDIT, Store

MODELS, FAILED = "zoo.audit_models", "zoo.audit_failed"
SHORT = 12  # characters of a digest

logger = logging.getLogger(__name__)


def audit_registered(
    store: Store,
    folder: Path,
    names: Sequence[str] = (),
    *,
    count: int,
    settings: Settings,
    device: str = "cpu",
    on_progress: OnProgress = no_progress,
) -> tuple[dict[str, Any], str]:
    """Audit every measure on registered models, into a folder and MLflow.

    `names` are models of two or more architectures, each with two or more seeds; by default all
    models with two or more seeds. `count` of the images stored with them are used.

    Returns:
        What audit.json holds, and the id of the run.

    Raises:
        UserError: no model has two seeds, or `folder` is not zoo's own.
    """
    # These load matplotlib, which a comparison that only reads an audit does not need.
    from zoo.experiments.audit import as_rows, audit_measures, describe, failures
    from zoo.experiments.audit_report import FOLDER, draw
    from zoo.figures.saving import save_figure

    check_replaceable(folder, FOLDER)
    first = [resolve(store, name) for name in names or _with_seeds(store)]
    others = other_seeds(store, first)
    variants = [[m, *(s for i, s in others if i == v)] for v, m in enumerate(first)]
    models = [model for of in variants for model in of]
    split, _ = labelled_images(store, first, None, count)
    found = audit_measures(
        [[load_resolved(store, m, name=m.name) for m in of] for of in variants],
        np.stack([split.read(i) for i in range(len(split))]),
        settings=settings,
        device=device,
        on_progress=on_progress,
    )
    report = {
        "models": [{"name": m.name, "uri": m.uri, "digest": m.digest} for m in models],
        "images": len(split.labels),
        "seed": settings.seed,
        "summary": describe(found),
        "failed": failures(found),
        "audit": as_rows(found),
    }
    with replacing_folder(folder, FOLDER) as new:
        write_json(new / "audit.json", report)
        save_figure(draw(found), new, "audit")
    return report, log_audit(store, folder, report, models)


def log_audit(
    store: Store, folder: Path, report: Mapping[str, Any], models: Sequence[Resolved]
) -> str:
    """Log an audit's folder as a run, linked to the versions that it used; return the run's id."""
    tags = {
        "mlflow.note.content": str(report["summary"]),
        MODELS: " ".join(sorted(model.digest[:SHORT] for model in models)),
        FAILED: json.dumps(report["failed"]),
    }
    name = f"audit of {', '.join(dict.fromkeys(model.name for model in models))}"
    points = [
        Point(metric_name(f"{row['question']}/{row['measure']}/{key}"), row[key], 0)
        for row in report["audit"]
        for key in ("auprc", "chance", "d_prime")
        if row[key] is not None
    ]
    with store.translate_mlflow_errors(), store.lock("audit"):
        run = runs.begin_run(store, AUDIT, name, tags, "zoo audit")
        with runs.finishing(store, run):
            runs.log_params(store, run, {"images": report["images"], "models": len(models)})
            runs.log_points(store, run.info.run_id, points)
            runs.log_inputs(store, run.info.run_id, [], models)
            store.client.log_artifacts(run.info.run_id, str(folder))
        return str(run.info.run_id)


def failed_measures(store: Store, models: Sequence[Resolved]) -> dict[str, list[str]]:
    """Return the measures that failed the newest audit that included all these models.

    Returns:
        The questions that each failed, by its title; nothing without an audit.
    """
    wanted = {model.digest[:SHORT] for model in models}
    with store.translate_mlflow_errors():
        # By name: asking for its id would create the experiment.
        if store.client.get_experiment_by_name(AUDIT) is None:
            return {}
        for run in runs.search_runs(store, AUDIT):
            if runs.is_finished(run) and wanted <= set(run.data.tags.get(MODELS, "").split()):
                return _read(run.data.tags.get(FAILED, "{}"))
    return {}


def _read(tag: str) -> dict[str, list[str]]:
    """Return what failed, from a tag that anyone on the server may have changed."""
    try:
        found = json.loads(tag)
        return {str(title): [*map(str, questions)] for title, questions in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        logger.warning("an audit's tag %s is damaged: run zoo audit again", FAILED)
        return {}


def _with_seeds(store: Store) -> list[str]:
    seeds: dict[str, set[int | None]] = {}
    for row in list_versions(store):
        if not row.experiment:
            seeds.setdefault(row.name, set()).add(row.seed)
    found = [name for name, of in seeds.items() if len(of) > 1]
    if not found:
        raise UserError("no registered model has two or more seeds: train them (study.seeds)")
    return found
