"""Errors between zoo and MLflow, in one line and without credentials."""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import requests
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from zoo.errors import UserError, brief

MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
AWAY = ("TEMPORARILY_UNAVAILABLE",)
REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError)
UNWRITABLE = re.compile("unable to open database file|attempt to write a readonly database")
LOCKED = re.compile("database (?:table |schema )?is locked")
FULL = re.compile("database or disk is full|No space left on device")
SCHEMA = re.compile(r"database schema \(found version (\w+), but expected (\w+)\)")
LONGEST = 300
LOCAL = ("file", "sqlite")
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

T = TypeVar("T")

# urllib3 announces every retry, and MLflow prints tracebacks of database errors; zoo prints one
# line at the end.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def redact(uri: str) -> str:
    """Return a URI without user name, password and query.

    >>> redact("postgresql://me:secret@host:5432/zoo?sslkey=a")
    'postgresql://host:5432/zoo'
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    # Up to the last @: a password may hold one that should have been percent-encoded.
    shown = rest if scheme in LOCAL else rest.rpartition("@")[2]
    return f"{scheme}://{re.split('[?#]', shown)[0]}"


@contextmanager
def translate_mlflow_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database and its connection raise into a `UserError` of one line."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        # Not `from error`: a notebook would show its text, which may hold the password.
        raise UserError(_explain(error, uri)) from None
    except (UserError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        # An answer that is not in MLflow's form may raise anything in MLflow's code.
        if not _is_of_mlflow(error):
            raise
        raise UserError(
            f"the answer of MLflow at {redact(uri)} cannot be read "
            f"({_without_credentials(brief(error), uri)}): check that this is the address of an "
            "MLflow server, version 3.11 or later"
        ) from None


def cannot_be_opened(database: str) -> str:
    """Say what is wrong with a database that SQLite cannot open."""
    return (
        f"{database} cannot be opened: expected a database file in a folder, both of which you may "
        "write to"
    )


def is_missing(error: MlflowException) -> bool:
    """Say whether MLflow answered that something does not exist."""
    return error.error_code in MISSING and not is_unreachable(error)


def is_unreachable(error: BaseException) -> bool:
    """Look for a broken connection among the causes: MLflow wraps it in its own exception."""
    return _cause(error) is not None


def retry_on_conflict(add: Callable[[], T]) -> T:
    """Run an insert, once more if another process added the same row at the same time.

    MLflow looks for the row and then adds it. The second of two processes violates the database's
    key, which MLflow reports in the database's words; when tried again, it finds the row.
    """
    try:
        return add()
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        return add()


def _is_of_mlflow(error: Exception) -> bool:
    """Say whether an exception came from MLflow's code, or from code that it called."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith("mlflow.") for frame, _ in frames)


def _cause(error: BaseException) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BROKEN) or getattr(seen, "error_code", "") in AWAY:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _explain(error: Exception, uri: str) -> str:
    shown, code = redact(uri), getattr(error, "error_code", "")
    if told := _explain_database(str(error), shown):
        return told
    if isinstance(_cause(error), requests.exceptions.RetryError):
        return (
            f"the tracking server {shown} keeps failing: check its log, then run the same command "
            "again"
        )
    # MLflow also says "temporarily unavailable" of a database that lacks a table.
    if is_unreachable(error) and not uri.startswith("sqlite"):
        tries = 1 + MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
        seconds = MLFLOW_HTTP_REQUEST_TIMEOUT.get()
        return (
            f"no answer from the tracking server {shown} ({tries} tries of {seconds} s at most): "
            "start it, or correct MLFLOW_TRACKING_URI, and run the same command again"
        )
    if code in REFUSED:
        return (
            f"the tracking server {shown} refused: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to an account that may do this"
        )
    detail = _without_credentials(str(error), uri)
    return f"MLflow at {shown}: {detail[:LONGEST]}"


def _explain_database(said: str, shown: str) -> str:
    """Say what is wrong with the database; empty if the error is not about it."""
    file = shown.removeprefix("sqlite:///")
    if FULL.search(said):
        return f"disk full ({shown}): free some space there and run the same command again"
    if LOCKED.search(said):
        return (
            f"{file} is locked by another program: wait for it or end it, and run the same command "
            "again"
        )
    if other := SCHEMA.search(said):
        return (
            f"{shown} was made by another MLflow (schema {other[1]}, expected {other[2]}): by an "
            f"older one, save a copy and run mlflow db upgrade {shown}; by a newer one, install it"
        )
    return cannot_be_opened(file) if UNWRITABLE.search(said) else ""


def _without_credentials(text: str, uri: str) -> str:
    told = " ".join(text.replace(uri, redact(uri)).split())
    for secret in filter(None, map(os.environ.get, SECRETS)):
        told = told.replace(secret, "…")
    return re.sub(r"://[^/@\s]+@", "://", told)
