"""Start MLflow's own server on a local store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from zoo.registry.store import Store


def serve_ui(store: Store, host: str, port: int) -> int:
    """Run MLflow's UI until it ends or is interrupted; return its exit status (0 for Ctrl-C).

    Args:
        store: a local store.
        host: address to listen on; 127.0.0.1 keeps it on this machine.
        port: TCP port.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    # A group of its own: Ctrl-C reaches MLflow's workers through us, once, and none is left.
    process = subprocess.Popen(command, env=dict(os.environ), start_new_session=True)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
