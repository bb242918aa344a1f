"""The same registry behind a real MLflow server on loopback, killed in the middle."""

import logging
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files import write_json
from zoo.registry.comparisons import fetch_comparison, find_comparison, log_comparison
from zoo.registry.images import fetch_images, store_images
from zoo.registry.listing import list_versions
from zoo.registry.register import register
from zoo.registry.resolve import load, resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import TRAIN, open_store
from zoo.registry.tracking import TrackingCallback

pytestmark = pytest.mark.slow

START_SECONDS = 120
ROW = {"epoch": 1, "step": 2, "train/loss": 1.5, "train/accuracy": 0.3, "validation/loss": 1.4,
       "validation/accuracy": 0.35, "learning_rate": 0.001, "seconds": 0.25}  # fmt: skip


class Server:
    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(START_SECONDS * 4):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5)
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.25)
        pytest.fail("the server did not start")

    def stop(self) -> None:
        import os
        import signal

        # Its workers are in the group that it leads.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path_factory, root, monkeypatch):
    started = Server(tmp_path_factory.mktemp("server"), root / "mlflow.db")
    started.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield started
    started.stop()


def test_everything_works_through_a_server_and_survives_its_death(
    server, tmp_path, make_folder, test_split, caplog
):
    store = open_store(tmp_path / "project")
    callback = TrackingCallback("vit-small-0", "inputs", root=store.root)
    callback.on_start({})
    callback.on_epoch(ROW, [])
    server.stop()
    with caplog.at_level(logging.WARNING, logger="zoo"):
        callback.on_epoch(ROW | {"epoch": 2}, [])
        callback.on_end(True)
    assert [record.name for record in caplog.records] == ["zoo.registry.tracking"]
    with pytest.raises(UserError, match=f"no answer from the tracking server {server.uri}"):
        register(
            store,
            make_folder(test_digest=load_subset(test_split).info.digest),
            test_folder=test_split,
        )

    server.start()
    store = open_store(tmp_path / "project")
    done = register(
        store,
        make_folder(test_digest=load_subset(test_split).info.digest),
        test_folder=test_split,
    )
    assert (done.version, done.created) == (1, True)
    assert not register(
        store,
        make_folder(test_digest=load_subset(test_split).info.digest),
        test_folder=test_split,
    ).created
    runs = search_runs(store, TRAIN)
    assert [run.info.status for run in runs] == ["FINISHED"]
    logged = store.client.get_metric_history(runs[0].info.run_id, "train/loss")
    assert [metric.step for metric in logged] == [1, 2]

    register(store, make_folder(1))
    assert [(row.version, row.aliases) for row in list_versions(store)] == [(1, ("best",)), (2, ())]
    assert load("vit-small@best", store=store).digest == done.digest
    with pytest.raises(UserError, match=r"vit-small has no version 9; it has 1, 2$"):
        resolve(store, "vit-small/9")
    with pytest.raises(UserError, match="did you mean vit-small"):
        resolve(store, "vit-smal")
    assert len(fetch_images(store, store_images(store, test_split))) == 12

    report = {"digest": "c" * 64, "settings": {}, "images": {}, "analyses": [], "summary": "s"}
    write_json(tmp_path / "comparison" / "report.json", report)
    models = [resolve(store, "vit-small/1"), resolve(store, "vit-small/2")]
    logged_run = log_comparison(store, tmp_path / "comparison", report, models)
    assert find_comparison(store, "c" * 64) == logged_run
    copy = fetch_comparison(store, logged_run, tmp_path / "copy")
    assert {path.name for path in copy.iterdir()} == {"report.json"}
