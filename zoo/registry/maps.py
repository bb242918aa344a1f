"""Maps of registered models: made of their fingerprints, written to a folder and MLflow."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.config import DEPTHS
from zoo.data.pictures import EvaluationImages
from zoo.errors import UserError, counted
from zoo.experiments.zoo_map import Member, Neighbour, nearest_to, too_few, zoo_map
from zoo.files import code_digest
from zoo.files.folders import check_replaceable, replacing_folder
from zoo.measures.fingerprints import Read
from zoo.progress import OnProgress, no_progress
from zoo.registry import runs
from zoo.registry.card import cell, fitting
from zoo.registry.datasets import dataset, dataset_input
from zoo.registry.fingerprints import (
    Kept,
    as_model,
    chosen_versions,
    keep_all,
    keep_fingerprint,
    named_images,
)
from zoo.registry.history import Point
from zoo.registry.listing import VersionRow
from zoo.registry.references import Resolved
from zoo.registry.store import COMPARE, Store
from zoo.report.zoo_map import FOLDER, save
from zoo.study.fingerprint import batches_of, read_vector

CODE = (
    "experiments/zoo_map.py",
    "experiments/zoo_map_figures.py",
    "figures",
    "measures",
    "report/zoo_map.html.j2",
    "report/zoo_map.py",
)


def map_registered(
    store: Store,
    folder: Path,
    *,
    query: str = "",
    at: str = "1",
    data: Path | None = None,
    count: int | None = None,
    device: str = "cpu",
    command: str = "",
    on_progress: OnProgress = no_progress,
) -> tuple[dict[str, Any], str]:
    """Place registered models by similarity; those without a fingerprint get one first.

    Args:
        store: keeps models, fingerprints and the map.
        folder: receives map.html, map.json, map.nc and figures/.
        query: which versions, as for `zoo.registry.filters.choose`; all by default.
        at: one of `zoo.config.POINTS`.
        data: a folder to take images from, instead of those stored with the models.
        count: how many images; 512 by default.
        device: where networks without a fingerprint run.
        command: shown in the report.
        on_progress: called for every model.

    Returns:
        What map.json holds, and the id of the run.

    Raises:
        UserError: fewer than two models have a fingerprint, there are no images, or `folder` is
            not zoo's own.
    """
    began = time.time()
    check_replaceable(folder, FOLDER)
    rows = chosen_versions(store, query)
    images = named_images(store, map(as_model, rows), data, count)
    there, left_out = _usable(store, rows, images, at, device, on_progress)
    if len(there) < 2:
        raise too_few(len(there), left_out)
    members = [member for member, _ in there]
    found = zoo_map(members, _reader([kept for _, kept in there], at), batches_of(len(images)))
    of = [[dataclasses.asdict(member), kept.path.stem] for member, kept in there]
    source = f"{images.source} {images.split}".strip()
    about = {
        "zoo_version": __version__,
        "digest": hashlib.sha256(json.dumps([of, at, code_digest(CODE)]).encode()).hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "at": at,
        "where": where(at),
        "images": {"count": len(images), "source": source, "digest": images.dataset_digest},
        "left_out": left_out,
    }
    with replacing_folder(folder, FOLDER) as new:
        report = save(found, about, new)
    return report, _log(store, folder, report, images, time.time() - began)


def nearest_registered(
    store: Store,
    model: Resolved,
    *,
    most: int = 5,
    query: str = "",
    at: str = "1",
    data: Path | None = None,
    count: int | None = None,
    device: str = "cpu",
    on_progress: OnProgress = no_progress,
) -> tuple[list[tuple[Member, Neighbour]], list[str], EvaluationImages]:
    """Find the `most` registered models that are most similar to a model, without itself.

    Other arguments are those of `map_registered`.

    Returns:
        The most similar ones first, why others were left out, and the images.

    Raises:
        UserError: the model cannot be fingerprinted, or no other one has a fingerprint.
    """
    itself = (model.name, model.version)
    rows = [row for row in chosen_versions(store, query) if (row.name, row.version) != itself]
    images = named_images(store, [model, *map(as_model, rows)], data, count)
    own = keep_fingerprint(store, model, images, device=device)
    if at in own.problems:
        raise UserError(f"{model.label} {where(at)} {own.problems[at]}: choose another --at")
    there, left_out = _usable(store, rows, images, at, device, on_progress)
    if not there:
        what = "no other registered model has a fingerprint to compare with"
        raise UserError("; ".join([what, *left_out]))
    read = _reader([own, *(kept for _, kept in there)], at)
    found = nearest_to(read, len(there) + 1, batches_of(len(images)), most=most)
    return [(there[near.index - 1][0], near) for near in found], left_out, images


def where(at: str) -> str:
    """Say at which depth models are compared."""
    return f"at relative depth {at}" if at in DEPTHS else f"by their {at}"


def _usable(
    store: Store,
    rows: Sequence[VersionRow],
    images: EvaluationImages,
    at: str,
    device: str,
    on_progress: OnProgress,
) -> tuple[list[tuple[Member, Kept]], list[str]]:
    """Return the versions with a fingerprint at a depth, and why the others have none."""
    there, left_out = [], []
    models = [as_model(row) for row in rows]
    known = keep_all(store, models, images, device=device, on_progress=on_progress)
    for row, model, kept in zip(rows, models, known, strict=True):
        if isinstance(kept, str):
            left_out.append(kept)
        elif at in kept.problems:
            left_out.append(f"{model.label} {where(at)} {kept.problems[at]}")
        else:
            trained_on = f"{row.source} {row.subset}".strip()
            there.append((Member(model.label, row.name, kept.family, trained_on, row.seed), kept))
    return there, left_out


def _reader(kept: Sequence[Kept], at: str) -> Read:
    return lambda i: read_vector(kept[i].path, at)


def _log(
    store: Store, folder: Path, report: dict[str, Any], images: EvaluationImages, seconds: float
) -> str:
    """Log a map as a run, unless it is logged; return the run's id."""
    digest = report["digest"]
    with store.translate_mlflow_errors(), store.lock(f"map-{digest[:16]}"):
        known = runs.search_runs(store, COMPARE, map_digest=digest)
        if not any(runs.is_finished(run) for run in known):
            name = f"map of {counted(len(report['models']), 'model')} {digest[:4]}"
            tags = {
                "zoo.map_digest": digest,
                "mlflow.note.content": _note(report),
            }
            split = images.split or "images"
            data = dataset(images.source, split, images.dataset_digest, len(images))
            values = {"map/share": report["share"], "map/mean_cka": report["mean_cka"]}
            points = [Point(k, v, 0, None, data) for k, v in values.items() if v is not None]
            run = runs.begin_run(store, COMPARE, name, tags, report["command"], seconds=seconds)
            with runs.finishing(store, run):
                runs.log_inputs(store, run.info.run_id, [dataset_input(data, "evaluation")])
                runs.log_points(store, run.info.run_id, points)
                store.client.log_artifacts(run.info.run_id, str(folder))
        return str(runs.keep_first(store, COMPARE, map_digest=digest).info.run_id)


def _note(report: dict[str, Any]) -> str:
    """Describe a map for its page in MLflow: the summary, and each model with its nearest."""
    rows = [
        f"| {cell(m['name'])} | {cell(m['data'])} | {cell(near['name'])} | {near['cka']:.3f} |"
        for m in report["models"]
        for near in m["nearest"][:1]
    ]
    return fitting(
        [
            cell(report["summary"]),
            "",
            "Open `map.html` among the artifacts.",
            "",
            "| model | trained on | nearest | CKA |",
            "|---|---|---|---:|",
            *rows,
        ]
    )
