"""The registry: the only place of zoo that talks to MLflow.

A model is the folder that holds it (`model.safetensors`, `spec.json`); MLflow has a view of it
that can be filled again at any time. Importing this package loads neither MLflow nor torch.
Resolving, listing, and registering what is already registered load no torch either. A program
calls `configure_mlflow` before it imports MLflow; importing alone changes no setting.

Every function that asks MLflow raises `UserError` if it does not answer, or refuses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["configure_mlflow", "load"]

if TYPE_CHECKING:
    from zoo.models.files import LoadedModel

# MLflow reads these while it is imported or at each request; what the user has set wins.
# A server that refuses connections is given up after 4 tries in about 6 s, a silent one after
# 4 × 30 s.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Otherwise a server could make every try wait for hours.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def configure_mlflow() -> None:
    """Keep MLflow quiet in this process and let it give up soon on an unreachable server."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def load(reference: str) -> LoadedModel:
    """Load a model by its reference; see `zoo.registry.resolve.load`."""
    configure_mlflow()
    from zoo.registry import resolve

    return resolve.load(reference)
