"""A real MLflow server on loopback, killed in the middle of training, registering and comparing."""

import logging
import shutil

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from tests.registry.conftest import MLFLOW_SERVER, Server
from zoo.cli import cli
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.registry.images import fetch_images
from zoo.registry.listing import list_versions
from zoo.registry.lookup import all_versions
from zoo.registry.register import register
from zoo.registry.resolve import load, resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import COMPARE, TRAIN, open_store
from zoo.registry.tracking import TrackingCallback

pytestmark = pytest.mark.slow

ROW = {"epoch": 1, "step": 2, "train/loss": 1.5, "train/accuracy": 0.3, "validation/loss": 1.4,
       "validation/accuracy": 0.35, "learning_rate": 0.001, "seconds": 0.25}  # fmt: skip


@pytest.fixture
def server(tmp_path_factory, database, monkeypatch):
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    started = Server(folder, MLFLOW_SERVER)
    try:
        started.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", started.uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        yield started
    finally:
        started.kill()


@pytest.fixture
def zoo(server, tmp_path, monkeypatch):
    """Run a command in a project; `dies_at` names the request in which the server is killed."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)

    def run(*arguments, dies_at=""):
        with monkeypatch.context() as patch:
            if dies_at:
                request = getattr(MlflowClient, dies_at)

                def die(*given, **named):
                    server.kill()
                    return request(*given, **named)

                patch.setattr(MlflowClient, dies_at, die)
            done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if dies_at:
            error = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
            assert (done.exit_code, len(error)) == (2, 1), done.output
            assert f"no answer from the tracking server {server.uri} (2 tries" in error[0]
            assert "run the same command again" in error[0] or "logs it later" in error[0]
            server.start()
        else:
            assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_a_killed_server_costs_a_line_and_nothing_else(
    server, zoo, tmp_path, make_folder, test_split, caplog
):
    test_digest = load_subset(test_split).info.digest
    folders = [make_folder(seed, test_digest=test_digest) for seed in (0, 1)]
    store = open_store(tmp_path / "project")

    # In training: the epochs after the first are not logged live.
    callback = TrackingCallback("vit-small-0", "inputs", root=store.root)
    callback.on_start({})
    callback.on_epoch(ROW, [])
    server.kill()
    with caplog.at_level(logging.WARNING, logger="zoo"):
        callback.on_epoch(ROW | {"epoch": 2}, [])
        callback.on_end(True)
    assert [record.name for record in caplog.records] == ["zoo.registry.tracking"]
    server.start()

    # In registering: before the version is made, with its files uploaded and its run ended.
    register_all = ("register", *folders, "--test", test_split)
    zoo(*register_all, dies_at="create_model_version")
    assert list_versions(store) == []
    zoo(*register_all)
    zoo(*register_all)
    rows = [(row.version, row.seed, row.aliases) for row in list_versions(store)]
    assert rows == [(1, 0, ("best",)), (2, 1, ())]
    runs = search_runs(store, TRAIN)
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    for run in runs:
        logged = store.client.get_metric_history(run.info.run_id, "train/loss")
        assert [metric.step for metric in logged] == [1, 2]
    assert len(store.client.search_logged_models([runs[0].info.experiment_id])) == 2
    assert len(fetch_images(store, test_digest)) == 12

    # In comparing: what was computed is kept, and only logged when the server is back.
    compare = ("compare", "vit-small/1", "vit-small/2", "--only", "accuracy", "--no-references")
    zoo(*compare, dies_at="log_artifacts")
    assert "Found: compared on" in zoo(*compare)
    finished = search_runs(store, COMPARE)
    assert [run.info.status for run in finished] == ["FINISHED"]
    assert store.client.list_artifacts(finished[0].info.run_id)
    before = sorted(store.root.glob("reports/**/*"))
    shutil.rmtree(store.root / "reports")
    assert "Found: compared on" in zoo(*compare)  # fetched: as on another machine
    assert sorted(store.root.glob("reports/**/*")) == before


def test_everything_works_through_a_server(server, tmp_path, make_folder):
    store = open_store(tmp_path / "project")
    done = register(store, make_folder())
    assert load("vit-small@best", store=store).digest == done.digest
    with pytest.raises(UserError, match=r"vit-small has no version 9; it has 1$"):
        resolve(store, "vit-small/9")
    with pytest.raises(UserError, match="did you mean 'vit-small'"):
        resolve(store, "vit-smal")
    # What the server lost is brought back to where it was.
    (weights,) = (server.folder / "served").rglob("model.safetensors")
    weights.unlink()
    assert not register(store, make_folder()).created
    assert weights.is_file()
    assert len(all_versions(store)) == 1


def test_a_fingerprint_is_made_for_all_machines_also_after_a_kill(
    zoo, server, tmp_path, make_folder, test_split, monkeypatch
):
    for seed in (0, 1):
        zoo("register", make_folder(seed))
    asked = ("fingerprint", "vit-small/1", "vit-small/2", "--data", test_split)
    zoo(*asked, dies_at="log_model_artifacts")
    assert zoo(*asked).count("made") == 2
    other = tmp_path / "another-machine"
    other.mkdir()
    monkeypatch.chdir(other)
    assert zoo(*asked).count("was there") == 2
