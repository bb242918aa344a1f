"""Two servers: the tracking server, and another one to which its answers point."""

import base64
import contextlib
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from zoo.errors import UserError
from zoo.registry.artifacts import fetch_file, missing_files
from zoo.registry.resolve import load
from zoo.registry.store import open_store

SERVED = "/api/2.0/mlflow-artifacts/artifacts"
NAMES = ["spec.json", "model.safetensors"]
ACCOUNTS = {
    "password": {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "secret"},
    "token": {"MLFLOW_TRACKING_TOKEN": "secret"},
}
SENT = {
    "password": f"Basic {base64.b64encode(b'me:secret').decode()}",
    "token": "Bearer secret",
}


class Recorder(ThreadingHTTPServer):
    """A server that keeps what it is asked; `answers` holds what it says to a path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str | None]] = []
        self.answers: dict[str, object] = {}
        self.redirect = ""
        self.host = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        path = self.path.split("?")[0]
        if self.server.redirect and path.startswith(SERVED):
            self.send_response(302)
            self.send_header("Location", self.server.redirect + self.path)
            content = b""
        else:
            self.send_response(200)
            # MLflow takes a listing of a file's own name alone for that file.
            names = [name for name in NAMES if self.path.endswith(name)] or NAMES
            listing = {"files": [{"path": name, "is_dir": False} for name in names]}
            content = json.dumps(self.server.answers.get(path, listing)).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_):
        pass


@pytest.fixture
def servers():
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Recorder()) for _ in range(2)]
        for server in started:
            threading.Thread(target=server.serve_forever, args=(0.02,)).start()
            stack.callback(server.shutdown)
        yield started


@pytest.fixture(params=["password", "token"])
def account(request, monkeypatch):
    for name, value in ACCOUNTS[request.param].items():
        monkeypatch.setenv(name, value)
    return SENT[request.param]


@pytest.fixture
def store(servers, account, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{servers[0].host}")
    return open_store(tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "mlflow-artifacts://{other}/1/artifacts",
        "http://{other}" + SERVED + "/1/artifacts",
        "http://{home}@{other}" + SERVED + "/1/artifacts",
        "http://{home}#@{other}" + SERVED + "/1/artifacts",
        "http://{other}\\@{home}" + SERVED + "/1/artifacts",
        "mlflow-artifacts:/redirected",
    ],
)
def test_another_host_gets_no_credentials(servers, store, account, tmp_path, address):
    home, other = servers
    if address.endswith("redirected"):
        home.redirect = f"http://{other.host}"
    folder = address.format(home=home.host, other=other.host)
    with contextlib.suppress(UserError):
        fetch_file(store, folder, "spec.json", tmp_path)
    with contextlib.suppress(Exception):
        missing_files(store, folder, ["spec.json"])
    assert account not in {sent for _, _, sent in other.asked}
    assert "#" in address or other.asked
    if address.startswith("mlflow-artifacts"):
        assert (tmp_path / "spec.json").is_file()
    if home.redirect:
        assert {sent for _, _, sent in home.asked} == {account}


@pytest.mark.parametrize(
    "address", ["mlflow-artifacts:", "mlflow-artifacts://{home}", "http://{home}" + SERVED]
)
def test_the_tracking_server_itself_does(servers, store, account, tmp_path, address):
    folder = address.format(home=servers[0].host) + "/1/artifacts"
    assert fetch_file(store, folder, "spec.json", tmp_path).is_file()
    assert missing_files(store, folder, ["spec.json"]) == []
    assert {sent for _, _, sent in servers[0].asked} == {account}


def test_neither_loading_nor_uploading_logs_in_elsewhere(servers, store, account, tmp_path):
    home, other = servers
    source = f"mlflow-artifacts://{other.host}/1/artifacts"
    version = {"name": "vit", "version": "1", "source": source, "status": "READY",
               "tags": [{"key": "zoo.sha256", "value": "0" * 64}]}  # fmt: skip
    run_id = uuid.uuid4().hex  # MLflow remembers where a run's files are
    info = {"run_id": run_id, "experiment_id": "1", "status": "RUNNING", "artifact_uri": source}
    home.answers = {
        "/api/2.0/mlflow/model-versions/get": {"model_version": version},
        "/api/2.0/mlflow/model-versions/get-download-uri": {"artifact_uri": source},
        "/api/2.0/mlflow/runs/get": {"run": {"info": info, "data": {}}},
    }
    with pytest.raises(UserError, match=r"expected sha256 000000000000, got"):
        load("vit/1", store=store)
    (tmp_path / "w.txt").write_text("w")
    store.client.log_artifact(run_id, str(tmp_path / "w.txt"))
    assert {method for method, _, _ in other.asked} == {"GET", "PUT"}
    assert {sent for _, _, sent in other.asked} == {None}
    assert {sent for _, _, sent in home.asked} == {account}
