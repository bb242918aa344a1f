"""Audits of measures as MLflow runs, and what a comparison of the same models takes from them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelInput

from zoo.registry.comparisons import metric_name
from zoo.registry.history import Point
from zoo.registry.provenance import source_tags
from zoo.registry.references import Resolved
from zoo.registry.runs import finished_run, is_finished, log_params, log_points, search_runs
from zoo.registry.store import Store

AUDIT = "zoo-audit"
MODELS, FAILED = "zoo.audit_models", "zoo.audit_failed"
SHORT = 12  # characters of a digest

logger = logging.getLogger(__name__)


def log_audit(
    store: Store, folder: Path, report: Mapping[str, Any], models: Sequence[Resolved]
) -> str:
    """Log an audit's folder as a run, linked to the versions that it used; return the run's id.

    Raises:
        UserError: MLflow does not answer.
    """
    tags = {
        "mlflow.note.content": str(report["summary"]),
        MODELS: " ".join(sorted(model.digest[:SHORT] for model in models)),
        FAILED: json.dumps(report["failed"]),
        **source_tags(store.root, "zoo audit"),
    }
    name = f"audit of {', '.join(dict.fromkeys(model.name for model in models))}"
    points = [
        Point(metric_name(f"{row['question']}/{row['measure']}/{key}"), row[key], 0, None, None)
        for row in report["audit"]
        for key in ("auprc", "chance", "d_prime")
        if row[key] is not None
    ]
    with store.translate_mlflow_errors(), finished_run(store, AUDIT, name, tags) as run:
        log_params(store, run, {"images": report["images"], "models": len(models)})
        log_points(store, run.info.run_id, points)
        links = [LoggedModelInput(model.model_id) for model in models if model.model_id]
        if links:
            store.client.log_inputs(run.info.run_id, [], links)
        store.client.log_artifacts(run.info.run_id, str(folder))
        return str(run.info.run_id)


def failed_measures(store: Store, models: Sequence[Resolved]) -> dict[str, list[str]]:
    """Return the measures that failed the newest audit of which all these models were a part.

    Returns:
        Their titles, each with the questions that it failed at; nothing without an audit.
    """
    wanted = {model.digest[:SHORT] for model in models}
    with store.translate_mlflow_errors():
        # Looked for by name: asking for its id would make the experiment.
        if store.client.get_experiment_by_name(AUDIT) is None:
            return {}
        for run in search_runs(store, AUDIT):
            if is_finished(run) and wanted <= set(run.data.tags.get(MODELS, "").split()):
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
