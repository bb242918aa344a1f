"""A server that goes away at any request: what was begun is completed later, nothing is doubled."""

import contextlib
import dataclasses
import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from mlflow.entities import FileInfo, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import OperationalError

from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files import write_json, write_text
from zoo.registry.comparisons import find_comparison, log_comparison
from zoo.registry.faults import redact, translate_mlflow_errors
from zoo.registry.images import fetch_images, store_images
from zoo.registry.lookup import all_versions
from zoo.registry.register import register
from zoo.registry.resolve import load, resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import COMPARE, TEST_IMAGES, TRAIN, open_store
from zoo.registry.tracking import TrackingCallback

ROW = {"epoch": 1, "step": 2, "train/loss": 1.5, "learning_rate": 0.001, "seconds": 0.25}


class Mortal:
    """A client whose server dies at its `last` request: before it is done, or before it answers."""

    def __init__(self, client, last: float, done: bool) -> None:
        self.client, self.last, self.done, self.asked = client, last, done, 0

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def ask(*arguments, **named):
            self.asked += 1
            if self.asked < self.last or (self.asked == self.last and self.done):
                answer = method(*arguments, **named)
            if self.asked >= self.last:
                raise MlflowException(f"{name} failed") from requests.ConnectionError("refused")
            return answer

        return ask


def mortal(store, last: float, done: bool = False):
    return dataclasses.replace(store, client=Mortal(store.client, last, done), _experiments={})


def sweep(tmp_path, database, act, check, when=(False, True)) -> None:
    """Let the server die at each request of `act` in turn; do it again, and check.

    `when` says whether the fatal request is done before.
    """
    for done in when:
        last = 0
        while True:
            last += 1
            root = tmp_path / f"{last}-{done}"
            root.mkdir()
            shutil.copyfile(database, root / "mlflow.db")
            store = open_store(root)
            dying = mortal(store, last, done)
            with contextlib.suppress(UserError):
                act(dying)
            if dying.client.asked < last:
                break  # it needs fewer requests than that
            act(store)
            check(store)
        assert last > 5


@pytest.mark.slow
def test_registering_is_completed_wherever_the_server_went_away(tmp_path, database, make_folder):
    folder = make_folder()

    def check(store):
        assert [int(version.version) for version in all_versions(store)] == [1]
        runs = search_runs(store, TRAIN)
        assert [run.info.status for run in runs] == ["FINISHED"]
        for key in (
            "train/loss",
            "train/step_loss",
            "weights/test/accuracy",
            "weights/validation/accuracy",
        ):
            points = store.client.get_metric_history(runs[0].info.run_id, key)
            steps = [point.step for point in points]
            assert steps == sorted(set(steps)), key
            assert len(steps) == {"train/loss": 2, "train/step_loss": 4}.get(key, 1)
        models = store.client.search_logged_models([runs[0].info.experiment_id])
        assert [model.status for model in models] == [LoggedModelStatus.READY]
        assert resolve(store, "vit-small@best").version == 1
        assert load("vit-small", store=store).spec.seed == 0

    # A request that was not done leaves what one leaves that is done before it.
    sweep(tmp_path, database, lambda store: register(store, folder), check, when=(True,))


@pytest.mark.slow
def test_a_comparison_is_logged_once_wherever_the_server_went_away(tmp_path, database, make_folder):
    report = {"digest": "c" * 64, "settings": {}, "images": {}, "analyses": [], "summary": "s"}
    write_json(tmp_path / "comparison" / "report.json", report)
    write_text(tmp_path / "comparison" / "report.html", "<p>report</p>")
    write_text(tmp_path / "comparison" / "results.nc", "results")

    def check(store):
        # Runs that a killed process left are no comparisons: the next one removes them.
        assert find_comparison(store, "c" * 64) is not None
        found = search_runs(store, COMPARE)
        assert [run.info.status for run in found if run.info.status == "FINISHED"] == ["FINISHED"]
        log_comparison(store, tmp_path / "comparison", report, [])
        assert len(search_runs(store, COMPARE)) == 1

    sweep(
        tmp_path, database,
        lambda store: log_comparison(store, tmp_path / "comparison", report, []), check,
    )  # fmt: skip


@pytest.mark.slow
def test_images_are_stored_once_wherever_the_server_went_away(tmp_path, database, test_split):
    digest = load_subset(test_split).info.digest

    def check(store):
        assert len(fetch_images(store, digest)) == 12
        finished = [run for run in search_runs(store, TEST_IMAGES) if run.info.status == "FINISHED"]
        assert len(finished) == 1

    sweep(tmp_path, database, lambda store: store_images(store, test_split), check)


def test_a_run_that_a_server_lost_before_its_first_epoch_is_adopted(store, root, make_folder):
    callback = TrackingCallback("vit-small-0", "inputs", {"epochs": 2}, root=root)
    callback.on_start({})  # then the server is away until training is over
    done = register(store, make_folder())
    runs = search_runs(store, TRAIN)
    assert [(run.info.status, run.data.tags["zoo.sha256"]) for run in runs] == [
        ("FINISHED", done.digest)
    ]


@pytest.mark.parametrize(("key", "epochs"), [("vit-small-1", 2), ("vit-small-0", 99)])
def test_the_run_of_another_training_that_just_began_is_left_alone(
    store, root, make_folder, key, epochs
):
    callback, state = TrackingCallback(key, "inputs", {"epochs": epochs}, root=root), {}
    callback.on_start(state)
    register(store, make_folder())
    assert len(search_runs(store, TRAIN)) == 2
    callback.on_epoch(ROW, [])
    callback.on_end(True)
    left = store.client.get_run(state["mlflow_run_id"])
    assert "zoo.sha256" not in left.data.tags


def test_a_new_registry_is_filled_again_from_the_folders_alone(store, database, make_folder):
    folders = [make_folder(seed, validation=0.5 + seed / 10) for seed in (0, 1)]
    before = [register(store, folder) for folder in folders]
    new = store.root / "new"
    new.mkdir()
    shutil.copyfile(database, new / "mlflow.db")
    store = open_store(new)
    retry_on_conflict = [register(store, folder) for folder in folders]
    assert all(entry.created for entry in retry_on_conflict)
    assert retry_on_conflict == before
    assert resolve(store, "vit-small@best").version == 2
    assert [run.info.status for run in search_runs(store, TRAIN)] == ["FINISHED"] * 2


@contextlib.contextmanager
def without_output():
    """A server that takes every connection and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def failing():
    """A server that is busy, and says: try again in an hour."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503)
            self.send_header("Retry-After", "3600")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (without_output, r"no answer from .*\(2 tries of 1 s at most\): start it"),
        (failing, "keeps failing: check its log"),
    ],
)
def test_waiting_for_a_server_has_a_bound_that_is_said(root, monkeypatch, server, message):
    for name, value in {"MAX_RETRIES": "1", "BACKOFF_FACTOR": "0", "TIMEOUT": "1"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    with server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        store, began = open_store(root), time.monotonic()
        with pytest.raises(UserError, match=message):
            resolve(store, "vit-small")
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/mlflow", "http://host:5000/mlflow"),
        ("http://me:sec/ret@host", "http://host"),
        ("http://me:sec?r#et@host", "http://host"),
        ("http://me:sec@ret@host", "http://host"),
        (
            "postgresql+psycopg2://me:secret@/zoo?host=/run&password=secret",
            "postgresql+psycopg2:///zoo",
        ),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("mlflow.db in /home/me@work", "mlflow.db in /home/me@work"),
    ],
)
def test_an_address_is_shown_without_credentials(address, shown):
    assert redact(address) == shown


@pytest.mark.parametrize(
    "said", ["unable to open database file", "attempt to write a readonly database"]
)
def test_a_database_that_cannot_be_written_is_told_without_its_sql(said):
    with (
        pytest.raises(
            UserError, match=r"^/zoo/mlflow\.db cannot be opened: expected a database fil"
        ),
        translate_mlflow_errors("sqlite:////zoo/mlflow.db"),
    ):
        raise OperationalError("SELECT name FROM sqlite_master", (), sqlite3.OperationalError(said))


def test_a_folder_in_the_databases_place_is_named(root, monkeypatch):
    monkeypatch.chdir(root)
    (root / "mlflow.db").unlink()
    (root / "mlflow.db").mkdir()
    with pytest.raises(UserError, match=r"mlflow\.db cannot be opened"):
        open_store(root)


def test_credentials_stand_in_no_error_and_no_printed_store(root, monkeypatch):
    address = "http://me:se/cr%40et@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass-word-2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = open_store(root)
    assert "cr%40et" not in repr(store)
    with pytest.raises(UserError) as raised, store.translate_mlflow_errors():
        raise MlflowException(f"call of {address}/api with me:pass-word-2 failed: http://a:b@c/d")
    assert str(raised.value).endswith("failed: http://c/d")
    # What a notebook shows of an error is all that leads to it.
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    for secret in ("cr%40et", "pass-word-2", "a:b"):
        assert secret not in str(raised.value)


def test_a_full_disk_of_the_database_is_told_as_one(tmp_path):
    cause = OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
    wrapped = MlflowException(str(cause), error_code=TEMPORARILY_UNAVAILABLE)
    for error in (cause, wrapped):
        with (
            pytest.raises(UserError, match=r"^disk full \(sqlite:///.*\): free some space there"),
            translate_mlflow_errors(f"sqlite:///{tmp_path}/mlflow.db"),
        ):
            raise error


def test_a_database_that_another_program_has_locked_is_told_as_locked(tmp_path):
    cause = OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked"))
    wrapped = MlflowException(str(cause), error_code=TEMPORARILY_UNAVAILABLE)
    for error in (cause, wrapped):
        with (
            pytest.raises(UserError, match=r"mlflow\.db is locked by another program: wait for it"),
            translate_mlflow_errors(f"sqlite:///{tmp_path}/mlflow.db"),
        ):
            raise error


def test_what_mlflow_meets_in_an_answer_is_a_line_and_a_fault_of_zoo_is_none():
    with (
        pytest.raises(
            UserError, match=r"the answer of MLflow at .* cannot be read \(AttributeError: "
        ),
        translate_mlflow_errors("http://127.0.0.1:9"),
    ):
        FileInfo.from_proto(None)
    with pytest.raises(AttributeError), translate_mlflow_errors("http://127.0.0.1:9"):
        None.version  # noqa: B018


def test_a_database_that_lacks_a_table_is_not_told_as_a_server_that_is_away(tmp_path):
    said = "(sqlite3.OperationalError) no such table: metrics"
    with (
        pytest.raises(
            UserError, match=r"MLflow at sqlite:///.*: \(sqlite3.*no such table: metrics"
        ),
        translate_mlflow_errors(f"sqlite:///{tmp_path}/mlflow.db"),
    ):
        raise MlflowException(said, error_code=TEMPORARILY_UNAVAILABLE)
