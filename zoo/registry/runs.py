"""Runs in MLflow: found by their tags, completed where they lack something, never duplicated."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import DatasetInput, LoggedModelInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from zoo.registry.faults import retry_on_conflict
from zoo.registry.history import Point
from zoo.registry.references import Resolved
from zoo.registry.store import Store

FINISHED, RUNNING = "FINISHED", "RUNNING"
PLACE = "zoo.place"
PAGE = 1000
LONGEST_PARAM = 6000  # characters; MLflow's own limit
GIT_SECONDS = 10


def quoted(value: str) -> str:
    """Return a value quoted for MLflow's search language."""
    if "'" in value or "\\" in value:
        raise ValueError(f"expected a value without quotes, got {value!r}")
    return f"'{value}'"


def search_runs(store: Store, experiment: str, **tags: str) -> list[Run]:
    """Return the runs of an experiment with these tags (prefixed by `zoo.`), newest first."""
    query = " and ".join(f"tags.`zoo.{key}` = {quoted(value)}" for key, value in tags.items())
    ids, newest_first = [store.experiment_id(experiment)], ["attributes.start_time DESC"]
    return all_pages(
        lambda token: store.client.search_runs(
            ids, query, max_results=PAGE, order_by=newest_first, page_token=token
        )
    )


def all_pages(ask: Callable[[str | None], Any]) -> list[Any]:
    """Return all that MLflow lists; `ask` takes a page's token, or None for the first page."""
    found = list(page := ask(None))
    while page.token:
        found += (page := ask(page.token))
    return found


def is_finished(run: Run) -> bool:
    """Say whether a run has finished."""
    return run.info.status == FINISHED


def missing_points(store: Store, run_id: str, points: Iterable[Point]) -> list[Point]:
    """Return the points whose step is not yet logged for their metric."""
    wanted = list(points)
    begun = store.client.get_run(run_id).data.metrics.keys() & {point.key for point in wanted}
    logged = {key: logged_steps(store, run_id, key) for key in begun}
    return [point for point in wanted if point.step not in logged.get(point.key, ())]


def logged_steps(store: Store, run_id: str, key: str) -> set[int]:
    """Return the steps at which a metric of a run is logged."""
    return {metric.step for metric in store.client.get_metric_history(run_id, key)}


def log_points(store: Store, run_id: str, points: Iterable[Point], **tags: str) -> None:
    """Log points, and tags (prefixed by `zoo.`), in as few requests as MLflow allows."""
    now = int(time.time() * 1000)
    metrics = [
        Metric(
            p.key,
            p.value,
            now,
            p.step,
            model_id=p.model_id,
            dataset_name=p.dataset.name if p.dataset else None,
            dataset_digest=p.dataset.digest if p.dataset else None,
        )
        for p in points
    ]
    marks = [RunTag(f"zoo.{k}", v) for k, v in tags.items()]
    store.client.log_batch(run_id, metrics, tags=marks)


def log_params(store: Store, run: Run, params: Mapping[str, Any]) -> None:
    """Log the params that a run lacks; MLflow refuses to change one."""
    lacking = [
        Param(key, str(value)[:LONGEST_PARAM])
        for key, value in flat(params).items()
        if key not in run.data.params
    ]
    store.client.log_batch(run.info.run_id, params=lacking)


def log_inputs(
    store: Store, run_id: str, data: Sequence[DatasetInput], models: Iterable[Resolved] = ()
) -> None:
    """Log what a run used: data, and the models that MLflow holds."""
    links = [LoggedModelInput(model.model_id) for model in models if model.model_id]
    if data or links:
        retry_on_conflict(lambda: store.client.log_inputs(run_id, data, links))


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted keys.

    >>> flat({"train": {"epochs": 3}, "seed": 0})
    {'train.epochs': 3, 'seed': 0}
    """
    result: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def delete_unfinished(store: Store, runs: Iterable[Run]) -> None:
    """Remove runs that killed processes of this place left; the caller holds their lock."""
    for run in runs:
        if not is_finished(run) and run.data.tags.get(PLACE) == store.place:
            # With the models that were being logged.
            mine = f"source_run_id = {quoted(run.info.run_id)}"
            for model in store.client.search_logged_models([run.info.experiment_id], mine):
                store.client.delete_logged_model(model.model_id)
            store.client.delete_run(run.info.run_id)


def keep_first(store: Store, experiment: str, **tags: str) -> Run:
    """Return the first finished run with these tags, and remove the others.

    If two machines do the same at once, both finish; the one that looks last sees both, and all
    agree on the first. The caller holds the lock of their work on this machine.
    """
    found = search_runs(store, experiment, **tags)
    delete_unfinished(store, found)
    finished = [run for run in found if is_finished(run)]
    first, *others = sorted(finished, key=lambda run: (run.info.start_time, run.info.run_id))
    for run in others:
        store.client.delete_run(run.info.run_id)
    return first


def begin_run(
    store: Store,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    command: str,
    *,
    seconds: float = 0,
) -> Run:
    """Start a run of this place; its duration includes `seconds` of earlier work."""
    return store.client.create_run(
        store.experiment_id(experiment),
        start_time=int((time.time() - seconds) * 1000),
        run_name=name,
        tags={PLACE: store.place, **_source_tags(store.root, command), **tags},
    )


@contextlib.contextmanager
def finishing(store: Store, run: Run) -> Iterator[Run]:
    """Mark a run as finished at the end, and remove it on an error."""
    try:
        yield run
        store.client.set_terminated(run.info.run_id, FINISHED)
    except BaseException:
        # Only the first error is reported.
        with contextlib.suppress(MlflowException):
            store.client.delete_run(run.info.run_id)
        raise


def _source_tags(root: Path, command: str) -> dict[str, str]:
    """Return who makes a run, by which command and from which commit, as MLflow's pages show it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    tags = {"mlflow.user": user, "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    tags |= {key: os.environ[key] for key in ("DVC_STAGE", "DVC_EXP_NAME") if os.environ.get(key)}
    if commit := _git(root, "rev-parse", "HEAD"):
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        tags["mlflow.source.git.commit"] = commit
        tags["zoo.git_dirty"] = "unknown" if changed is None else str(bool(changed)).lower()
    return tags


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints in a folder; None where it fails or takes too long."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
