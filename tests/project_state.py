"""What a project and its registry hold, without ids and times: two that did the same are equal."""

from __future__ import annotations

import collections
import hashlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

RUNS = "JOIN runs r USING (run_uuid) WHERE r.lifecycle_stage = 'active'"
VERSIONS = """JOIN model_versions v ON v.name = t.name AND v.version = t.version
    WHERE v.current_stage != 'Deleted_Internal'"""
# Tags that name a run, a moment or a command.
CHANGING = """t.key NOT IN ('zoo.history', 'zoo.models', 'mlflow.note.content',
    'mlflow.source.name', 'mlflow.user', 'DVC_STAGE') AND t.key NOT LIKE 'zoo.model.%.run_id'"""
QUERIES = {
    "runs": """SELECT e.name, r.name, r.status FROM runs r JOIN experiments e USING (experiment_id)
        WHERE r.lifecycle_stage = 'active'""",
    "metrics": f"""SELECT r.name, m.key, m.step, CASE m.key WHEN 'seconds' THEN 0 ELSE m.value END
        FROM metrics m {RUNS}""",
    "params": f"SELECT r.name, t.key, t.value FROM params t {RUNS}",
    "run tags": f"SELECT r.name, t.key, t.value FROM tags t {RUNS} AND {CHANGING}",
    "versions": """SELECT v.name, v.version, r.name, r.lifecycle_stage FROM model_versions v
        LEFT JOIN runs r ON r.run_uuid = v.run_id WHERE v.current_stage != 'Deleted_Internal'""",
    "version tags": f"""SELECT t.name, t.version, t.key,
        CASE t.key WHEN 'zoo.model_id' THEN '' ELSE t.value END
        FROM model_version_tags t {VERSIONS}""",
    "aliases": "SELECT name, alias, version FROM registered_model_aliases",
    "models": "SELECT name, status FROM logged_models WHERE lifecycle_stage = 'active'",
    "inputs": """SELECT i.source_type, i.destination_type, count(*) FROM inputs i
        JOIN runs r ON r.run_uuid IN (i.source_id, i.destination_id)
        WHERE r.lifecycle_stage = 'active' GROUP BY 1, 2""",
}
DELETED = """SELECT run_uuid FROM runs WHERE lifecycle_stage != 'active'
    UNION SELECT model_id FROM logged_models WHERE lifecycle_stage != 'active'"""
KEPT_BY_OTHERS = ("mlflow.db", ".dvc/", ".zoo/locks", "factory", "__pycache__")


def project_state(root: Path) -> dict[str, list]:
    """Return all that a command may leave, by kind, each sorted."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        state = {kind: sorted(database.execute(query), key=str) for kind, query in QUERIES.items()}
        deleted = {found for (found,) in database.execute(DELETED)}
    return state | {"files": _files(root, deleted), "contents": _contents(root)}


def difference(expected: list, came: list) -> str:
    """Say in short what two lists do not share."""
    first, second = (collections.Counter(map(str, one)) for one in (expected, came))
    lacks, has = list((first - second).elements()), list((second - first).elements())
    return f"lacks {lacks[:4]}, has {has[:4]}"


def _files(root: Path, deleted: set[str]) -> list[str]:
    """Return the paths in a project, without what MLflow still keeps of deleted runs."""
    found = []
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        ours = not name.startswith(KEPT_BY_OTHERS) and path.suffix != ".lock"
        if ours and path.is_file() and not any(run in name for run in deleted):
            name = re.sub(r"timestamp\+\d+\+[0-9a-f-]{36}", "T", name)
            found.append(re.sub(r"[0-9a-f]{32}", "ID", name))
    return sorted(found)


def _contents(root: Path) -> list[tuple[str, Any]]:
    """Return digests of weights, specs and images, and the numbers of reports."""
    found = []
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] in {"mlartifacts", ".zoo", ".dvc"}:
            continue
        if path.name in {"model.safetensors", "spec.json"} or path.suffix == ".npy":
            found.append((str(name), hashlib.sha256(path.read_bytes()).hexdigest()))
        elif path.name == "report.json":
            report = json.loads(path.read_text())
            found.append((str(name), str([report.get(key) for key in ("digest", "metrics")])))
    return sorted(found)
