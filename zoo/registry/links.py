"""Links into MLflow's pages, in the mode that shows models (a fresh browser opens in another)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from zoo.registry.faults import redact
from zoo.registry.references import Resolved
from zoo.registry.store import COMPARE, TRAIN, Store

LOCAL = "http://127.0.0.1:5000"
MODE = "workflowType=machine_learning"


def list_links(store: Store, base: str = "") -> dict[str, str]:
    """Return the pages that list `models`, `training runs` and `comparisons`.

    Args:
        store: whose UI it is.
        base: where the UI is; the server's own address, or where `zoo ui` starts it, by default.
    """
    root = _root(store, base)
    train, compare = (_experiment(store, name) for name in (TRAIN, COMPARE))
    return {
        "models": f"{root}/models?{MODE}",
        "training runs": f"{root}/experiments/{train}/runs?{MODE}&compareRunsMode=CHART",
        "comparisons": f"{root}/experiments/{compare}/runs?{MODE}",
    }


def comparison_link(store: Store, run_id: str) -> str:
    """Return the page of a comparison's or a map's run."""
    return f"{_root(store)}/experiments/{_experiment(store, COMPARE)}/runs/{run_id}?{MODE}"


def side_by_side_link(store: Store, models: Sequence[Resolved]) -> str:
    """Return MLflow's comparison of models' training runs; empty where there are not two."""
    run_ids = [model.run_id for model in models if model.run_id]
    if len(run_ids) < 2:
        return ""
    runs, experiments = (quote(json.dumps(ids)) for ids in (run_ids, [_experiment(store, TRAIN)]))
    return f"{_root(store)}/compare-runs?runs={runs}&experiments={experiments}&{MODE}"


def version_link(store: Store, model: Resolved, base: str = "") -> str:
    """Return the page of a registered version; empty for anything else."""
    page = version_page(model)
    return page and f"{_root(store, base)}{page}"


def version_page(model: Resolved) -> str:
    """Return what follows the `#` in `version_link`; empty for anything but a version."""
    if model.version is None:
        return ""
    return f"/models/{quote(model.name)}/versions/{model.version}?{MODE}"


def _root(store: Store, base: str = "") -> str:
    address = base or (redact(store.uri) if store.is_server else LOCAL)
    return f"{address.rstrip('/')}/#"


def _experiment(store: Store, name: str) -> str:
    with store.translate_mlflow_errors():
        return store.experiment_id(name)
