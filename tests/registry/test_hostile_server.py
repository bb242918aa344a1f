"""A server that answers anything: every command ends in one short line and changes no file."""

import contextlib
import copy
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.nested import places, put
from zoo.cli import main

API = "/api/2.0/mlflow"
DIGEST = "0" * 64
VERSION = {
    "name": "vit", "version": "1", "source": "mlflow-artifacts:/1", "status": "READY",
    "creation_timestamp": 1, "last_updated_timestamp": 1, "run_id": "a" * 32,
    "tags": [{"key": "zoo.sha256", "value": DIGEST}, {"key": "zoo.seed", "value": "0"}],
}  # fmt: skip
RUN = {
    "info": {"run_id": "a" * 32, "experiment_id": "1", "status": "FINISHED", "start_time": 1,
             "artifact_uri": "mlflow-artifacts:/1", "lifecycle_stage": "active"},
    "data": {"tags": [], "metrics": [], "params": []},
}  # fmt: skip
MODEL = {"name": "vit", "aliases": [{"alias": "best", "version": "1"}], "latest_versions": []}
ANSWERS = {
    "model-versions/search": {"model_versions": [VERSION, VERSION | {"version": "2"}]},
    "registered-models/search": {"registered_models": [MODEL]},
    "registered-models/get": {"registered_model": MODEL},
    "model-versions/get": {"model_version": VERSION},
    "registered-models/alias": {"model_version": VERSION},
    "model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/1"},
    "experiments/get-by-name": {
        "experiment": {"experiment_id": "1", "name": "zoo-train", "lifecycle_stage": "active",
                       "artifact_location": "mlflow-artifacts:/1"},
    },
    "runs/search": {"runs": [RUN]},
    "runs/get": {"run": RUN},
}  # fmt: skip
COMMANDS = (
    ("list",), ("show", "vit/1"), ("show", "vit"), ("pull", "vit/1", "out"), ("verify",),
    ("rm", "vit/1", "--yes"), ("tag", "vit/1", "a=b"), ("compare", "vit/1", "vit/2"),
)  # fmt: skip
ADDRESSES = (
    *("http://[::1", "http://127.0.0.1:1/x", "s3://bucket/x", "gs://bucket/x", "sftp://host/x"),
    *("r2://x/y", "b2://x/y", "abfss://x@y/z", "hdfs://h/x", "dbfs:/x", "ftp://127.0.0.1:1/x"),
    *("file:///etc", "/etc", "mlflow-artifacts:/../../x", "nosuch://x", "", "runs:/x/y"),
)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.just([]), st.just({}),
    st.sampled_from(ADDRESSES),
    st.sampled_from(["1/../../x", "9" * 5000, "-1", "1e3", "\x1b]0;x\a", "é" * 9000, "NaN"]),
    st.lists(st.integers(), max_size=2), st.text(max_size=9),
)  # fmt: skip


class Server(ThreadingHTTPServer):
    """Answers MLflow's requests by `answers`; anything else is not there."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, object] = copy.deepcopy(ANSWERS)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = self.path.split("?")[0].removeprefix(API).strip("/")
        known = asked in self.server.answers
        answer = self.server.answers.get(asked, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    with Server() as started, contextlib.ExitStack() as stack:
        threading.Thread(target=started.serve_forever, args=(0.02,)).start()
        stack.callback(started.shutdown)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{started.server_port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.chdir(tmp_path)
        yield started


@pytest.fixture
def zoo(monkeypatch, capsys):
    """Run a command; return its status and what it printed on stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["zoo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


PLACES = [(name, path) for name, answer in ANSWERS.items() for path in places(answer)]


def check(server, zoo, tmp_path, command, changed):
    server.answers = {**copy.deepcopy(ANSWERS), **changed}
    before, began = sorted(tmp_path.rglob("*")), time.monotonic()
    status, _, said = zoo(*command)
    assert time.monotonic() - began < 30
    assert status in (0, 2, 3), said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(lines) == (status == 2), said
    assert all(len(line) < 1000 for line in said.splitlines()), said
    assert "\x1b" not in said
    own = (tmp_path / ".zoo",)
    assert sorted(p for p in tmp_path.rglob("*") if not p.is_relative_to(*own)) == [
        p for p in before if not p.is_relative_to(*own)
    ]
    return status, said


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(  # no list, while the version itself is there
    place=("model-versions/search", ("model_versions",)),
    value=None,
    command=("rm", "vit/1", "--yes"),
)
@example(
    place=("registered-models/search", ("registered_models", 0, "aliases", 0, "version")),
    value=None,
    command=("list",),
)
@given(place=st.sampled_from(PLACES), value=ODD, command=st.sampled_from(COMMANDS))
def test_any_value_in_an_answer_ends_in_a_line(server, zoo, tmp_path, place, value, command):
    name, path = place
    check(server, zoo, tmp_path, command, {name: put(ANSWERS[name], path, value)})


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "command", [("show", "vit/1"), ("pull", "vit/1", "out"), ("verify", "vit/1")]
)
def test_an_address_that_leads_nowhere_is_named_with_the_version(
    server, zoo, tmp_path, address, command
):
    status, _ = check(
        server, zoo, tmp_path, command,
        {"model-versions/get-download-uri": {"artifact_uri": address}},
    )  # fmt: skip
    assert status == (3 if command[0] == "verify" else 2)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[" * 9000, b'"x"', b"null", b"\xff"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_answer_of_mlflow_ends_in_a_line(server, zoo, tmp_path, content, command):
    status, _ = check(server, zoo, tmp_path, command, dict.fromkeys(ANSWERS, content))
    assert status == 2 or content == b""  # which MLflow takes for an empty list


@pytest.mark.parametrize("number", ["1/../../x", "9" * 5000, "x", "-1", ""])
def test_other_versions_are_listed_beside_one_that_is_none(server, zoo, tmp_path, caplog, number):
    bad = put(ANSWERS["model-versions/search"], ("model_versions", 0, "version"), number)
    server.answers["model-versions/search"] = bad
    with caplog.at_level(logging.WARNING):
        status, printed, _ = zoo("list", "--json")
    assert status == 0
    assert [row["version"] for row in json.loads(printed)] == [2]
    assert "vit" in caplog.text
