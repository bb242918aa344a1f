"""Comparisons as MLflow runs: one for each digest, shown as done only when it is complete."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModelInput, Run
from mlflow.exceptions import MlflowException

from zoo.claims.base import format_p
from zoo.comparison import FILES, FOLDER, REPORT
from zoo.errors import UserError
from zoo.files import read_json
from zoo.folders import replacing_folder
from zoo.registry.artifacts import fetch_file, local_folder
from zoo.registry.card import LONGEST, cell
from zoo.registry.faults import is_unreachable
from zoo.registry.history import Point
from zoo.registry.provenance import source_tags
from zoo.registry.references import Resolved
from zoo.registry.runs import (
    delete_unfinished,
    finished_run,
    is_finished,
    keep_first,
    log_params,
    log_points,
    search_runs,
)
from zoo.registry.store import COMPARE, Store

LONGEST_METRIC = 250  # characters; MLflow's own limit


@dataclass(frozen=True)
class ComparisonRun:
    """A finished comparison in MLflow."""

    run_id: str
    name: str
    digest: str
    artifacts: str
    created: datetime


def find_comparison(store: Store, digest: str) -> ComparisonRun | None:
    """Return the newest finished comparison with a digest whose files are there."""
    with store.translate_mlflow_errors():
        for run in search_runs(store, COMPARE, comparison_digest=digest):
            if is_finished(run) and _is_whole(store, run):
                return _as_comparison(run)
    return None


def log_comparison(
    store: Store,
    folder: Path,
    report: Mapping[str, Any],
    models: Sequence[Resolved],
    *,
    force: bool = False,
) -> ComparisonRun:
    """Log a comparison's folder as a run, linked to the versions that it compares.

    Args:
        store: where to.
        folder: report.html, report.json, results.nc and figures/; all of it is kept.
        report: what report.json holds: `digest`, `settings`, `models`, `analyses`, `metrics`,
            `images`, `claims`, `summary`.
        models: what was compared, in order.
        force: replace the run of the same comparison instead of keeping it.

    Raises:
        UserError: MLflow does not answer.
    """
    from zoo.registry.pictures import log_figures  # matplotlib, which finding one needs not

    digest = str(report["digest"])
    with store.translate_mlflow_errors(), store.lock(f"compare-{digest[:16]}"):
        known = search_runs(store, COMPARE, comparison_digest=digest)
        delete_unfinished(store, known)
        if not force and (found := find_comparison(store, digest)):
            return found
        name = " vs ".join(model.label for model in models)
        with finished_run(store, COMPARE, name, _tags(store, report, models)) as run:
            run_id = run.info.run_id
            log_params(store, run, _params(report, models))
            log_points(store, run_id, [Point(k, v, 0) for k, v in _metrics(report).items()])
            links = [LoggedModelInput(model.model_id) for model in models if model.model_id]
            if links:
                store.client.log_inputs(run_id, models=links)
            store.client.log_artifacts(run_id, str(folder))
            log_figures(store, run_id, folder, report)
        for old in known:
            if is_finished(old):
                store.client.delete_run(old.info.run_id)
        return _as_comparison(keep_first(store, COMPARE, comparison_digest=digest))


def fetch_report(store: Store, run: ComparisonRun) -> dict[str, Any]:
    """Return a comparison's report.json; `UserError` where it is gone or damaged."""
    with store.translate_mlflow_errors(), tempfile.TemporaryDirectory() as temporary:
        report = read_json(fetch_file(store, run.artifacts, REPORT, temporary))
    if not isinstance(report, dict):
        raise UserError(f"{REPORT} of the run {run.run_id} is damaged: compare again with --force")
    return report


def fetch_comparison(store: Store, run: ComparisonRun, folder: Path) -> Path:
    """Make a folder of everything that a comparison's run keeps, complete or not at all."""
    local = local_folder(run.artifacts)
    with (
        store.translate_mlflow_errors(),
        replacing_folder(folder, FOLDER) as new,
        tempfile.TemporaryDirectory() as temporary,
    ):
        if local is None:
            local = Path(
                mlflow.artifacts.download_artifacts(
                    run_id=run.run_id, dst_path=temporary, tracking_uri=store.uri
                )
            )
        elif not (local / REPORT).is_file():
            raise UserError(f"{REPORT} is missing in {local}: compare again with --force")
        _check_no_links(local)
        # Not what else the run holds: MLflow's copies of the figures, or files of other people.
        for name in FILES:
            shutil.copyfile(local / name, new / name)
        for name in FOLDER.folders:
            if (local / name).is_dir():
                shutil.copytree(local / name, new / name)
    return folder


def _check_no_links(folder: Path) -> None:
    """Refuse to copy what a link in somebody's artifacts leads to."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise UserError(f"{path} is a link to {path.readlink()}: not followed")


def _as_comparison(run: Run) -> ComparisonRun:
    return ComparisonRun(
        run.info.run_id,
        run.info.run_name or "",
        run.data.tags["zoo.comparison_digest"],
        run.info.artifact_uri,
        datetime.fromtimestamp(run.info.start_time / 1000, UTC),
    )


def _is_whole(store: Store, run: Run) -> bool:
    local = local_folder(run.info.artifact_uri)
    if local is not None:
        return all((local / name).is_file() for name in FILES)
    try:
        listed = store.client.list_artifacts(run.info.run_id)
    except MlflowException as error:
        if is_unreachable(error):
            raise
        return False
    return set(FILES) <= {entry.path for entry in listed}


def _tags(store: Store, report: Mapping[str, Any], models: Sequence[Resolved]) -> dict[str, str]:
    tags = {
        "zoo.comparison_digest": str(report["digest"]),
        "zoo.models": ", ".join(model.uri for model in models),
        "zoo.images_digest": str(report.get("images", {}).get("digest", "")),
        "mlflow.note.content": _note(report, models),
        **source_tags(store.root, "zoo compare"),
    }
    for i, model in enumerate(models):
        tags |= {
            f"zoo.model.{i}.name": model.name,
            f"zoo.model.{i}.version": "" if model.version is None else str(model.version),
            f"zoo.model.{i}.run_id": model.run_id,
            f"zoo.model.{i}.sha256": model.digest,
        }
    return {key: value for key, value in tags.items() if value}


def _params(report: Mapping[str, Any], models: Sequence[Resolved]) -> dict[str, Any]:
    return {
        **report.get("settings", {}),
        "images": report.get("images", {}).get("count", ""),
        "analyses": ", ".join(entry["name"] for entry in report.get("analyses", ())),
        **{f"model.{i}": model.uri for i, model in enumerate(models)},
    }


def _metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Name a report's metrics so that charts of different comparisons share their axes.

    A metric of one network, or of a pair among more than two, ends in its position among the
    compared models: `accuracy/accuracy/a`, `cka/mean_all_pairs/a-c`. What has a single value, such
    as the mean CKA of two models, has no such end.
    """
    names = [model["name"] for model in report.get("models", ())]
    positions = {name: chr(ord("a") + i) if i < 26 else str(i) for i, name in enumerate(names)}
    metrics: dict[str, float] = {}
    for row in report.get("metrics", ()):
        of = [name for name in (row["network"], row["network_b"]) if name]
        if all(name in positions for name in of):
            key = f"{row['analysis']}/{row['measure']}"
            metrics[_of_positions(key, of, positions, row["directed"])] = row["value"]
    for claim in _tested(report):
        key = _of_positions(f"claims/{claim['id']}", claim["models"], positions, False)
        metrics[key] = claim["value"]
        if claim["before"]:
            metrics[f"{key}/untrained"] = claim["before"]["value"]
    return {metric_name(key): value for key, value in metrics.items()}


def _of_positions(
    key: str, names: Sequence[str], positions: Mapping[str, str], directed: bool
) -> str:
    whole = not names or (len(names) == len(positions) == 2 and not directed)
    return key if whole else f"{key}/{'-'.join(positions[name] for name in names)}"


def metric_name(key: str) -> str:
    """Return a name that MLflow takes: what it refuses in a model's name becomes a colon.

    >>> metric_name("cka/a+b__c/mean")
    'cka/a:b__c/mean'
    """
    # A part of dots alone, or none, would be another metric's place among MLflow's files.
    name = "/".join(
        ":" if not part.strip(".") else re.sub(r"[^\w.\- ]", ":", part) for part in key.split("/")
    )
    if len(name) <= LONGEST_METRIC:
        return name
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_METRIC - 9]}:{digest}"


def _tested(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [claim for claim in report.get("claims", ()) if claim["value"] is not None]


def _note(report: Mapping[str, Any], models: Sequence[Resolved]) -> str:
    """Describe a comparison for its page: the finding, the models and the claims."""
    lines = [
        cell(str(report.get("summary", ""))),
        "",
        "| model | version | sha256 |",
        "|---|---|---|",
    ]
    for model in models:
        version = "" if model.version is None else str(model.version)
        lines.append(f"| {cell(model.name)} | {version} | {model.digest[:12]} |")
    if claims := _tested(report):
        lines += ["", "| claim | models | value | verdict | p (Holm) |", "|---|---|---:|---|---:|"]
        lines += [
            f"| {cell(claim['statement'])} | {cell(', '.join(claim['models']))} "
            f"| {claim['value']:.3f} | {cell(claim['verdict'])} "
            f"| {format_p(claim['p_holm'])} |"
            for claim in claims
        ]
    lines += ["", "Open `report.html` among the artifacts."]
    return "\n".join(lines)[:LONGEST]
