"""What goes wrong between zoo and MLflow, told in one line and without credentials."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from zoo.errors import UserError

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
AWAY = ("TEMPORARILY_UNAVAILABLE",)
REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
LONGEST = 300

# urllib3 announces every retry; the one line at the end says it all.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def redact(uri: str) -> str:
    """Return a URI without user name, password and query.

    >>> redact("postgresql://me:secret@host:5432/zoo?sslkey=a")
    'postgresql://host:5432/zoo'
    """
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, host, parts.path, "", ""))
    # urlunsplit drops the empty host of sqlite:///relative/path.
    return plain if host or not uri.startswith(f"{parts.scheme}://") else uri.split("?")[0]


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database and its connection raise into a `UserError` of one line."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        raise UserError(_explain(error, uri)) from error


def is_missing(error: MlflowException) -> bool:
    """Say whether MLflow answered that the thing asked for does not exist."""
    return error.error_code in MISSING and not is_away(error)


def is_away(error: BaseException) -> bool:
    """Look for a broken connection among the causes: MLflow wraps it in its own exception."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(
            seen, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError
        ):
            return True
        if getattr(seen, "error_code", "") in AWAY:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _explain(error: Exception, uri: str) -> str:
    shown, code = redact(uri), getattr(error, "error_code", "")
    if is_away(error):
        tries = 1 + int(os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"))
        return (
            f"no answer from the tracking server {shown} ({tries} tries): start it, or correct "
            "MLFLOW_TRACKING_URI, and run the same command again"
        )
    if code in REFUSED:
        return (
            f"the tracking server {shown} refused: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to an account that may do this"
        )
    detail = _without_credentials(str(error), uri)
    return f"MLflow at {shown}: {detail[:LONGEST]}"


def _without_credentials(text: str, uri: str) -> str:
    first = " ".join(text.replace(uri, redact(uri)).split())
    return re.sub(r"://[^/@\s]+@", "://", first)
