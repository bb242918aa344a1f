"""Comparisons as MLflow runs: one per digest, finished only once it is complete."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from zoo.claims.base import format_p
from zoo.comparison import FIGURES, FILES, FOLDER, PAGE, REPORT, RESULTS, figure_files
from zoo.errors import UserError, counted
from zoo.files import read_json
from zoo.files.folders import replacing_folder
from zoo.registry import runs
from zoo.registry.artifacts import fetch_file, missing_files
from zoo.registry.card import cell, fitting
from zoo.registry.datasets import compared_data, dataset_input
from zoo.registry.history import Point
from zoo.registry.references import Resolved
from zoo.registry.store import COMPARE, Store
from zoo.registry.ui import version_page
from zoo.study.results import INITIAL

LONGEST_METRIC = 250  # characters; MLflow's own limit
NAMED = 3  # analyses that a comparison's title names
LONGEST_JOINED = 18  # characters
TITLE = "zoo.comparison"  # the tag of the title
NOTE, DIGEST, LOOKS = "mlflow.note.content", "zoo.comparison_digest", "zoo.looks"


def find_comparison(store: Store, digest: str) -> Run | None:
    """Return the newest finished comparison with a digest whose files are there."""
    with store.translate_mlflow_errors():
        for run in runs.search_runs(store, COMPARE, comparison_digest=digest):
            if runs.is_finished(run) and not missing_files(store, run.info.artifact_uri, FILES):
                return run
    return None


def log_comparison(
    store: Store,
    folder: Path,
    report: Mapping[str, Any],
    models: Sequence[Resolved],
    *,
    force: bool = False,
    seconds: float = 0,
) -> Run:
    """Log a comparison's folder as a run, linked to the versions that it compares.

    All of `folder` is kept: report.html, report.json (which holds `report`), results.nc, figures/.
    `force` replaces an earlier run of the same comparison. If it was computed just now, `seconds`
    says how long that took.
    """
    from zoo.registry.pictures import log_figures  # matplotlib, not needed to find one

    digest = str(report["digest"])
    with store.translate_mlflow_errors(), store.lock(f"compare-{digest[:16]}"):
        known = runs.search_runs(store, COMPARE, comparison_digest=digest)
        runs.delete_unfinished(store, known)
        if not force and (found := find_comparison(store, digest)):
            return found
        # MLflow's table of runs shows about 23 characters of a name.
        name = f"{_joined([model.label for model in models])} {digest[:4]}"
        tags = _tags(report, models)
        run = runs.begin_run(store, COMPARE, name, tags, "zoo compare", seconds=seconds)
        with runs.finishing(store, run):
            run_id = run.info.run_id
            runs.log_params(store, run, _params(report, models))
            runs.log_points(store, run_id, _points(report, models))
            data = compared_data(report)
            images = [dataset_input(data, "evaluation")] if data else []
            runs.log_inputs(store, run_id, images, models)
            store.client.log_artifacts(run_id, str(folder))
            log_figures(store, run, folder, report)
        for old in known:
            if runs.is_finished(old):
                store.client.delete_run(old.info.run_id)
        return runs.keep_first(store, COMPARE, comparison_digest=digest)


def _title(report: Mapping[str, Any], models: Sequence[Resolved]) -> str:
    """Say in full what is compared."""
    ran = [entry["name"] for entry in report.get("analyses", ())]
    analyses = ", ".join(ran) if len(ran) <= NAMED else f"{len(ran)} analyses"
    images = counted(int(report.get("images", {}).get("count", 0)), "image")
    of = [m.label if m.version is None else f"{m.name}/{m.version}" for m in models]
    return f"{' vs '.join(of)}: {analyses} on {images} ({str(report['digest'])[:6]})"


def _joined(names: Sequence[str]) -> str:
    """Join names, writing what they share once; if that is too long, give the first and a number.

    >>> _joined(["vit-small", "resnet18-small"]), _joined(["vit-small", "vit-small-v2"])
    ('vit,resnet18-small', 'vit-small,small-v2')
    """
    parts = [re.findall(r"[-/]|[^-/]+", name) for name in names]
    head = _shared([part[:-1] for part in parts])
    rest = [part[len(head) :] for part in parts]
    tail = _shared([part[:0:-1] for part in rest])[::-1]
    middles = ("".join(part[: len(part) - len(tail)]) for part in rest)
    joined = "".join([*head, ",".join(middles), *tail])
    return joined if len(joined) <= LONGEST_JOINED else f"{names[0]} +{len(names) - 1}"


def _shared(parts: Sequence[Sequence[str]]) -> list[str]:
    """Return the longest common beginning."""
    alike = itertools.takewhile(lambda at: len(set(at)) == 1, zip(*parts, strict=False))
    return [first for first, *_ in alike]


def update_comparison(
    store: Store,
    run: Run,
    folder: Path,
    report: Mapping[str, Any],
    models: Sequence[Resolved],
) -> None:
    """Update a comparison's run to a page, figures and claims that were drawn again.

    The tag that says so is set last, so that an interrupted update is done again.
    """
    from zoo.registry.pictures import log_figures

    client, run_id = store.client, run.info.run_id
    with store.translate_mlflow_errors(), store.lock(f"compare-{report['digest'][:16]}"):
        client.log_artifacts(run_id, str(folder))
        log_figures(store, client.get_run(run_id), folder, report)
        runs.log_points(store, run_id, _points(report, models))
        client.set_tag(run_id, NOTE, _note(report, models))
        client.set_tag(run_id, LOOKS, str(report["looks"]))


def fetch_comparison(store: Store, run: Run, folder: Path) -> dict[str, Any]:
    """Fetch a comparison's run into a folder, complete or not at all.

    Returns:
        What its report.json holds.

    Raises:
        UserError: a file is missing, damaged, or of another comparison.
    """
    run_id = run.info.run_id
    with (
        store.translate_mlflow_errors(),
        replacing_folder(folder, FOLDER) as new,
        tempfile.TemporaryDirectory() as temporary,
    ):

        def fetch(name: str) -> None:
            try:
                came = fetch_file(store, run.info.artifact_uri, name, temporary)
            except UserError as error:
                raise UserError(f"{error}: compare again with --force") from None
            shutil.copyfile(came, new / name)

        fetch(REPORT)
        report = read_json(new / REPORT)
        if not isinstance(report, dict):
            raise UserError(f"{REPORT} of the run {run_id} is damaged: compare again with --force")
        if report.get("digest") != run.data.tags[DIGEST]:
            raise UserError(
                f"the run {run_id} holds the report of another comparison; --force computes this "
                "one again and replaces it"
            )
        (new / FIGURES).mkdir()
        # The run also holds MLflow's copies of figures, and perhaps files of other people.
        figures = [f"{FIGURES}/{name}" for name in figure_files(report)]
        with ThreadPoolExecutor() as pool:  # each takes a while from a distant server
            list(pool.map(fetch, [PAGE, RESULTS, *figures]))
    return report


def _tags(report: Mapping[str, Any], models: Sequence[Resolved]) -> dict[str, str]:
    tags = {
        DIGEST: str(report["digest"]),
        TITLE: _title(report, models),
        "zoo.models": ", ".join(model.uri for model in models),
        "zoo.images_digest": str(report.get("images", {}).get("digest", "")),
        LOOKS: str(report.get("looks", "")),
        NOTE: _note(report, models),
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


def _points(report: Mapping[str, Any], models: Sequence[Resolved]) -> list[Point]:
    """Return a report's metrics, named so that charts of different comparisons share their axes.

    The name ends in the networks that the metric is of, as letters in the order of the models:
    `accuracy/accuracy/a`, `cka/mean_all_pairs/a-c`; before training and for another seed
    `accuracy/accuracy/a.untrained`, `cka/mean_same_layer/a-a.seed1`; over all seeds
    `accuracy/accuracy/a.seeds_mean`, `accuracy/accuracy/a.seeds_deviation`. What has one value in
    a comparison of two, such as their mean CKA, has no ending. Each model's own metrics are also
    logged for the model, as `accuracy/accuracy` with its place as the step: MLflow ranks by these.
    """
    data, labels = compared_data(report), _labels(report)
    compared = [model["name"] for model in report.get("models", ())]
    values: dict[str, float] = {}
    own: dict[tuple[str, int], float] = {}
    for row in report.get("metrics", ()):
        of = [name for name in (row["network"], row["network_b"]) if name]
        if all(name in labels for name in of):
            measure = f"{row['analysis']}/{row['measure']}"
            whole = not of or (sorted(of) == sorted(compared) and not row["directed"])
            named = whole and len(of) != 1
            values[measure if named else _ending_in(measure, of, labels)] = row["value"]
            if len(of) == 1 and of[0] in compared:
                own[measure, compared.index(of[0])] = row["value"]
    for row in report.get("seeds", ()):
        key = _ending_in(f"{row['analysis']}/{row['measure']}", row["of"], labels)
        values |= {
            f"{key}.seeds_{what}": row[what]
            for what in ("mean", "deviation")
            if row[what] is not None
        }
    for claim in _tested(report):
        whole = sorted(claim["models"]) == sorted(compared) and len(compared) == 2
        key = f"claims/{claim['id']}"
        key = key if whole else _ending_in(key, claim["models"], labels)
        values[key] = claim["value"]
        if claim["before"]:
            values[f"{key}/untrained"] = claim["before"]["value"]
        if claim.get("seeds"):
            held, seeds = claim["seeds"]
            values[f"{key}/held_in_seeds"] = held / seeds
    points = [Point(metric_name(key), value, 0, None, data) for key, value in values.items()]
    points += [
        Point(metric_name(measure), value, place, models[place].model_id, data)
        for (measure, place), value in own.items()
        if place < len(models) and models[place].model_id
    ]
    return points


def _labels(report: Mapping[str, Any]) -> dict[str, str]:
    """Return each network's letter in names of metrics: `a`, `a.untrained`, `a.seed1`."""
    names = [model["name"] for model in report.get("models", ())]
    labels = {name: _letter(place) for place, name in enumerate(names)}
    networks = report.get("networks", ())
    first = {network["name"]: network["seed"] for network in networks if network["name"] in labels}
    for network in networks:
        if network["name"] not in labels and network["model"] in labels:
            seed = f".seed{network['seed']}" * (
                network["seed"] != first.get(network["model"], network["seed"])
            )
            state = ".untrained" * (network["state"] == INITIAL)
            labels[network["name"]] = f"{labels[network['model']]}{seed}{state}"
    return labels


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else str(place)


def _ending_in(key: str, names: Sequence[str], labels: Mapping[str, str]) -> str:
    return f"{key}/{'-'.join(labels[name] for name in names)}"


def metric_name(key: str) -> str:
    """Return a name that MLflow accepts, with colons for the characters that it refuses.

    >>> metric_name("cka/a+b__c/mean")
    'cka/a:b__c/mean'
    """
    # MLflow makes paths of names: an empty part, or one of dots, would lead to another metric.
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
        "Open `report.html` among the artifacts.",
        "",
        "| in metrics' names | model | version | sha256 |",
        "|---|---|---|---|",
    ]
    for place, model in enumerate(models):
        # The run's page in MLflow does not list models of another experiment.
        page = version_page(model)
        version = page and f"[{model.version}](#{page})"
        lines.append(f"| {_letter(place)} | {cell(model.name)} | {version} | {model.digest[:12]} |")
    if claims := _tested(report):
        lines += ["", "| claim | models | value | verdict | p (Holm) |", "|---|---|---:|---|---:|"]
        lines += [
            f"| {cell(claim['statement'])} | {cell(', '.join(claim['models']))} "
            f"| {claim['value']:.3f} | {cell(claim['verdict'])} "
            f"| {format_p(claim['p_holm'])} |"
            for claim in claims
        ]
    return fitting(lines)
