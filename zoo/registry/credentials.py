"""The user's name, password and token go only to the tracking server.

A server says where its files are, and MLflow would send the credentials there, wherever it is.
"""

from __future__ import annotations

import os

from mlflow.store.artifact import http_artifact_repo, mlflow_artifacts_repo
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

PORTS = {"http": 80, "https": 443}


def keep_credentials_home() -> None:
    """Let MLflow request artifacts on other hosts anonymously, without certificate or signature."""
    for module in (http_artifact_repo, mlflow_artifacts_repo):
        vars(module)["get_default_host_creds"] = _credentials


def _credentials(address: str) -> MlflowHostCreds:
    origin = _origin(address)
    if origin is not None and origin == _origin(os.environ.get("MLFLOW_TRACKING_URI", "")):
        return get_default_host_creds(address)
    return MlflowHostCreds(address)


def _origin(address: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port as the request will read them, if there are any."""
    try:
        parts = parse_url(address)
    except LocationParseError:
        return None
    if parts.scheme not in PORTS or not parts.host:
        return None
    return parts.scheme, parts.host, parts.port or PORTS[parts.scheme]
