"""Start MLflow's own server on a local store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import webbrowser
from threading import Thread
from urllib.request import urlopen

from zoo.registry.store import Store

GRACE = 10  # seconds that MLflow has to end by itself


def serve_ui(store: Store, host: str, port: int, page: str = "") -> int:
    """Run MLflow's UI until it ends or is interrupted; return its exit status (0 for Ctrl-C).

    Args:
        store: a local store.
        host: address to listen on; 127.0.0.1 keeps it on this machine.
        port: TCP port.
        page: an address that the user's browser opens once the server answers.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    # Not on the command line, which all may read: the address may hold a password.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": store.uri}
    # A group of its own: Ctrl-C reaches MLflow's workers through us, once, and none is left.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    if page:
        health = f"http://{host}:{port}/health"
        Thread(target=_open_once_up, args=(process, health, page), daemon=True).start()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                # It waits for open pages to close their connections.
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _open_once_up(process: subprocess.Popen[bytes], health: str, page: str) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), urlopen(health, timeout=5):
            webbrowser.open(page)
            return
        time.sleep(0.3)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
