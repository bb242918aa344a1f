"""Links into MLflow's pages, in the mode that shows models (a fresh browser opens in another)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from zoo.registry.faults import redact
from zoo.registry.references import Resolved
from zoo.registry.store import COMPARE, TRAIN, Store

LOCAL = "http://127.0.0.1:5000"
MODE = "workflowType=machine_learning"


@dataclass(frozen=True)
class Links:
    """Where to look: `runs` and `models` list everything, the others this comparison.

    `side_by_side` is MLflow's own comparison of the training runs; the last two are empty where
    there is nothing to show.
    """

    runs: str
    models: str
    comparisons: str
    comparison: str = ""
    side_by_side: str = ""


def ui_links(
    store: Store,
    *,
    base: str = "",
    comparison: str = "",
    models: Sequence[Resolved] = (),
) -> Links:
    """Return links into the UI.

    Args:
        store: whose UI it is.
        base: where the UI is; the server's own address, or where `zoo ui` starts it, by default.
        comparison: run id of a comparison.
        models: their training runs are put side by side.
    """
    with store.translate_mlflow_errors():
        train, compare = store.experiment_id(TRAIN), store.experiment_id(COMPARE)
    root = ui_base(store, base)
    run_ids = [model.run_id for model in models if model.run_id]
    return Links(
        runs=f"{root}/experiments/{train}/runs?{MODE}&compareRunsMode=CHART",
        models=f"{root}/models?{MODE}",
        comparisons=f"{root}/experiments/{compare}/runs?{MODE}",
        comparison=f"{root}/experiments/{compare}/runs/{comparison}?{MODE}" if comparison else "",
        side_by_side=side_by_side(root, run_ids, train) if len(run_ids) > 1 else "",
    )


def version_link(store: Store, model: Resolved, base: str = "") -> str:
    """Return the page of a registered version; empty for anything else."""
    if model.version is None:
        return ""
    root = ui_base(store, base)
    return f"{root}/models/{quote(model.name)}/versions/{model.version}?{MODE}"


def ui_base(store: Store, base: str = "") -> str:
    """Return the address that every page of the UI begins with."""
    address = base or (redact(store.uri) if store.is_server else LOCAL)
    return f"{address.rstrip('/')}/#"


def side_by_side(root: str, run_ids: Sequence[str], experiment: str) -> str:
    """Return MLflow's page that compares runs: params, metrics and artifacts."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment]))
    return f"{root}/compare-runs?runs={runs}&experiments={experiments}&{MODE}"
