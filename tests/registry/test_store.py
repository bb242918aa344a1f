import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from zoo.errors import UserError
from zoo.project.doctor import check_store
from zoo.registry.faults import redact
from zoo.registry.register import register
from zoo.registry.store import (
    COMPARE,
    EXPERIMENTS,
    TEST_IMAGES,
    TRAIN,
    _check_database,
    find_root,
    open_store,
)


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True
    )


def test_the_root_is_the_nearest_folder_with_params_and_pipeline(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "params.yaml").touch()
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert find_root() == tmp_path


def test_without_a_project_the_root_is_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_root() == tmp_path


def test_in_a_copy_that_dvc_made_the_root_is_the_real_project(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "real"))
    monkeypatch.chdir(tmp_path)
    assert find_root() == tmp_path / "real"


def test_the_environment_names_the_store(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    store = open_store(root)
    assert (store.uri, store.is_server) == ("http://127.0.0.1:9", True)


def test_the_database_allows_readers_beside_a_writer(root):
    with sqlite3.connect(root / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_artifacts_lie_under_the_root_whatever_the_working_folder(store, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in (TRAIN, TEST_IMAGES, COMPARE):
        experiment = store.client.get_experiment(store.experiment_id(name))
        assert Path(urlsplit(experiment.artifact_location).path) == (
            store.root / "mlartifacts" / name
        )


def test_mlflows_list_says_what_an_experiment_holds(store):
    for name, about in EXPERIMENTS.items():
        made = store.client.get_experiment(store.experiment_id(name))
        assert made.tags["mlflow.note.content"] == about


def test_an_experiment_is_created_once(store, root):
    assert store.experiment_id(TRAIN) == open_store(root).experiment_id(TRAIN)


def test_a_deleted_experiment_is_told_with_the_way_back(store, root):
    store.client.delete_experiment(store.experiment_id(TRAIN))
    with pytest.raises(UserError, match="mlflow experiments restore --experiment-id"):
        open_store(root).experiment_id(TRAIN)


@pytest.mark.parametrize("uri", ["ftp://me:secret@host/zoo", "file:///tmp/mlruns", "./mlruns"])
def test_an_address_of_an_unknown_kind_ends_in_one_line(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="begins with one of http, https, sqlite") as caught:
        open_store(tmp_path)
    assert "secret" not in str(caught.value)


def test_a_database_whose_driver_is_missing_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+nodriver://me:secret@host/zoo")
    monkeypatch.setattr(
        "zoo.registry.store.MlflowClient",
        lambda *_, **__: (_ for _ in ()).throw(ModuleNotFoundError(name="psycopg")),
    )
    with pytest.raises(UserError, match="host/zoo needs the Python package psycopg"):
        open_store(tmp_path)


def test_an_unreachable_server_is_named_without_credentials(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = open_store(root)
    with (
        pytest.raises(
            UserError, match=r"no answer .*http://127\.0\.0\.1:9 \(1 tries of 30 s"
        ) as caught,
        store.translate_mlflow_errors(),
    ):
        store.experiment_id(TRAIN)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000/a", "http://host:5000/a"),
        ("postgresql://me:p%40ss@host/zoo?password=x", "postgresql://host/zoo"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_what_is_shown_of_an_address(uri, shown):
    assert redact(uri) == shown


def test_importing_the_package_loads_neither_mlflow_nor_torch(tmp_path):
    code = (
        "import sys, os, zoo.registry, zoo.registry.references, zoo.registry.history\n"
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'\n"
        "print([m for m in ('mlflow', 'torch', 'timm') if m in sys.modules])"
    )
    assert run_python(code, tmp_path).stdout.strip() == "[]"


@pytest.mark.slow
def test_registering_again_resolving_and_listing_load_no_torch_and_say_nothing(
    tmp_path, make_folder
):
    folder = make_folder()
    (tmp_path / "project").mkdir()
    register(open_store(tmp_path / "project"), folder)
    code = f"""
import sys, json
from pathlib import Path
from zoo.registry.store import open_store
from zoo.registry.register import register
from zoo.registry.resolve import resolve, fetch_model
from zoo.registry.listing import list_versions
store = open_store(Path("."))
register(store, Path({str(folder)!r}))
fetch_model(store, resolve(store, "vit-small"))
rows = list_versions(store)
print(json.dumps([len(rows), "torch" in sys.modules, "timm" in sys.modules]))
"""
    done = run_python(code, tmp_path / "project")
    assert json.loads(done.stdout) == [1, False, False]
    assert done.stderr == ""


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_make_one_database(tmp_path):
    code = (
        "from pathlib import Path; from zoo.registry.store import open_store\n"
        "print(open_store(Path('.')).experiment_id('zoo-train'))"
    )
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert {out for out, _ in said} == {b"1\n"}
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {".zoo", "mlflow.db", "mlflow.db-wal", "mlflow.db-shm"}


def test_a_project_in_a_folder_with_odd_characters_works(tmp_path, database, make_folder):
    import shutil

    from zoo.registry.register import register
    from zoo.registry.resolve import fetch_model, resolve

    odd = tmp_path / "my zoo 100%"
    odd.mkdir()
    shutil.copyfile(database, odd / "mlflow.db")
    store = open_store(odd)
    register(store, make_folder())
    assert odd in fetch_model(store, resolve(store, "vit-small")).parents


def test_a_project_that_was_moved_is_told_and_the_old_place_is_not_made_again(
    tmp_path, database, make_folder
):
    folder, old, new = make_folder(), tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copyfile(database, old / "mlflow.db")
    register(open_store(old), folder)
    old.rename(new)
    with pytest.raises(UserError) as caught:
        open_store(new)
    told = str(caught.value)
    assert f"was made in another place: its files lie in {old / 'mlartifacts'}" in told
    assert "remove mlflow.db* and run `zoo register`" in told
    assert not old.exists()
    for file in new.glob("mlflow.db*"):
        file.unlink()
    assert register(open_store(new), folder).created
    assert not old.exists()


def test_a_copied_project_is_told_that_it_writes_into_the_original(tmp_path, database, capsys):
    from zoo.cli.output import warn_of_copy
    from zoo.project.doctor import check_store

    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    shutil.copyfile(database, first / "mlflow.db")
    assert open_store(first).experiment_id(TRAIN)
    (first / "mlartifacts" / TRAIN).mkdir(parents=True)
    warn_of_copy(open_store(first))
    assert [check.status for check in check_store(first)] == ["ok"]
    shutil.copytree(first, copy)
    warning, fine = check_store(copy)
    assert (warning.status, fine.status) == ("warning", "ok")
    assert f"is a copy of {first / 'mlflow.db'}: what it registers is written" in warning.found
    assert warning.fix.startswith(f"remove {copy / 'mlflow.db'}* and run `zoo register`")
    capsys.readouterr()
    warn_of_copy(open_store(copy))
    assert capsys.readouterr().err == f"Warning: {warning.found}; {warning.fix}\n"


def test_a_folder_for_files_that_somebody_chose_may_be_empty_yet(tmp_path, database):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "project").mkdir()
    shutil.copyfile(database, tmp_path / "project" / "mlflow.db")
    place = (tmp_path / "chosen" / "files").as_uri()
    store = open_store(tmp_path / "project")
    experiment = store.client.create_experiment(TRAIN, place)
    assert open_store(tmp_path / "project").experiment_id(TRAIN) == experiment


@pytest.mark.parametrize("cut", [0, 4096, 100_000])
def test_what_only_reads_makes_no_tables_in_a_database_that_is_no_registry(tmp_path, database, cut):
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes()[:cut])
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(
        UserError, match=r"mlflow\.db is not an? (registry: it is empty|SQLite database)"
    ):
        open_store(tmp_path, create=False)
    with pytest.raises(UserError, match=r"is not a"):
        list(check_store(tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_store_that_is_no_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(UserError, match=r"mlflow\.db is not an SQLite database: .* move it away"):
        open_store(tmp_path)


def test_a_database_of_another_mlflow_is_named_and_left_as_it_is(root):
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    before = (root / "mlflow.db").read_bytes()
    for look in (lambda: open_store(root).experiment_id(TRAIN), lambda: list(check_store(root))):
        with pytest.raises(
            UserError, match=r"another MLflow \(schema 0123456789ab, expected \w+\)"
        ):
            look()
    assert (root / "mlflow.db").read_bytes() == before


def test_looking_at_a_database_leaves_the_locks_on_it(tmp_path):
    database = tmp_path / "mlflow.db"
    begin = "sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN EXCLUSIVE')"
    write = f"import sqlite3, sys; {begin}"
    with closing(sqlite3.connect(database)) as held:
        held.execute("CREATE TABLE runs (id)")
        held.execute("BEGIN IMMEDIATE")
        _check_database(database, create=True)
        other = subprocess.run(
            [sys.executable, "-c", write, database], capture_output=True, text=True, check=False
        )
    assert "database is locked" in other.stderr


@pytest.mark.parametrize("create", [True, False])
def test_a_database_that_is_a_link_to_itself_is_named(tmp_path, create):
    (tmp_path / "mlflow.db").symlink_to("mlflow.db")
    with pytest.raises(UserError, match=r"mlflow\.db cannot be opened: expected a database file"):
        open_store(tmp_path, create=create)
    assert (tmp_path / "mlflow.db").is_symlink()


@pytest.mark.parametrize("uri", ["sqlite:", "sqlite://", "sqlite:///", "sqlite+pysqlite:///"])
def test_an_address_of_a_database_without_a_file_is_named(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="expected sqlite:///FILE, got 'sqlite"):
        open_store(tmp_path)
