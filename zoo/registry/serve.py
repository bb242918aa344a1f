"""Start MLflow's own server on a local store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO
from urllib.request import urlopen

from zoo.errors import UserError
from zoo.registry.store import Store

GRACE = 10  # seconds that pages have to close their connections


def serve_ui(
    store: Store, host: str, port: int, *, on_ready: Callable[[], None], show_output: bool
) -> None:
    """Run MLflow's UI until Ctrl-C or SIGTERM.

    Args:
        store: a local one.
        host: address to listen on; 127.0.0.1 keeps it on this machine.
        port: TCP port.
        on_ready: called once, when the server answers.
        show_output: pass on what MLflow prints; else its last line is told if it fails.

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
