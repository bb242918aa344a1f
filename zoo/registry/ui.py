"""MLflow's pages: links into them, and the server that shows those of a local store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO
from urllib.parse import quote
from urllib.request import urlopen

from zoo.errors import UserError
from zoo.registry.faults import redact
from zoo.registry.references import Resolved
from zoo.registry.store import COMPARE, TRAIN, Store

LOCAL = "http://127.0.0.1:5000"
MODE = "workflowType=machine_learning"  # shows models; a fresh browser opens in another mode
GRACE = 10  # seconds that pages have to close their connections


def list_links(store: Store, base: str = "") -> dict[str, str]:
    """Return the pages that list `models`, `training runs` and `comparisons`.

    `base` is the UI's address: by default the server's own, or where `zoo ui` starts it.
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


def serve_ui(
    store: Store, host: str, port: int, *, on_ready: Callable[[], None], show_output: bool
) -> None:
    """Run MLflow's UI until Ctrl-C or SIGTERM.

    A host of 127.0.0.1 keeps the pages on this machine. `on_ready` is called once, when the server
    answers. `show_output` passes on what MLflow prints; otherwise a failure tells its last line.

    Raises:
        UserError: the server ended by itself.
    """
    # MLflow's own jobs, such as judging traces, are eight processes more, and zoo has none.
    jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Not on the command line, which all may read: the address may hold a password.
    environment = {**jobs, **os.environ, "MLFLOW_BACKEND_STORE_URI": store.uri}
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile() as file:
        output = None if show_output else file
        process = subprocess.Popen(
            server_command(host, port), env=environment, stdout=output, stderr=output
        )
        try:
            while process.poll() is None and not _answers(f"http://{host}:{port}/health"):
                time.sleep(0.3)
            if process.returncode is None:
                on_ready()
            status = process.wait()
        except KeyboardInterrupt:
            return
        finally:
            process.terminate()  # MLflow's command passes it on to its server
            process.wait()
            signal.signal(signal.SIGTERM, previous)
        said = "" if show_output else f" ({_last_line(file)})"
    raise UserError(
        f"MLflow's server ended with status {status}{said}; is port {port} in use? "
        "zoo -v ui shows all that it says"
    )


def server_command(host: str, port: int) -> list[str]:
    """Return the command that starts MLflow's server, quiet about single requests."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    options = f"--log-level warning --timeout-graceful-shutdown {GRACE}"
    return [*command, "--host", host, "--port", str(port), "--uvicorn-opts", options]


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError), urlopen(address, timeout=5):
        return True
    return False


def _last_line(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
