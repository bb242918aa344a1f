"""docs/server.md, command by command: PostgreSQL, MLflow with passwords, and two users at once."""

import contextlib
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from tests.registry.conftest import Server, session
from tests.registry.postgres import restart_database, running_database
from zoo.config import Settings
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.project.leftovers import find_leftovers
from zoo.registry.annotations import set_alias
from zoo.registry.artifacts import fetch_file
from zoo.registry.compare import compare_registered
from zoo.registry.listing import list_versions
from zoo.registry.lookup import all_versions
from zoo.registry.register import register
from zoo.registry.resolve import load, resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import COMPARE, TEST_IMAGES, TRAIN, open_store

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
PASSWORD = "ada's pass&word: 1"
# One user's work, in a project of its own; a line on stdin lets it go on.
WORK = """
import sys
from pathlib import Path
from zoo.cli import cli
from zoo.config import Params
from zoo.config.mapping import from_mapping
from zoo.registry.tracking import TrackingCallback
from zoo.config import Variant
from zoo.training.variants import train_variant

seed, subsets, shared, params = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], eval(sys.argv[4])
folder = Path("models") / f"vit-small-{seed}"
train_variant(
    from_mapping(Params, params, "params"), Variant("vit", "small", seed), subsets=subsets,
    folder=folder, checkpoints=Path(".zoo/checkpoints"),
    callbacks=lambda inputs, settings: [TrackingCallback(folder.name, inputs, settings)],
)
def zoo(*arguments):
    print("ready", flush=True)
    sys.stdin.readline()
    cli([*arguments], standalone_mode=False)
zoo("register", str(folder), "--test", str(subsets / "test"))
zoo("register", shared)
zoo("compare", "vit-small@best", "shared", "--only", "accuracy,cka", "--images", "40",
    "--no-references", "--data", str(subsets / "test"))
print("done", flush=True)
"""
PARAMS = {
    "data": {"source": "digits", "root": "raw", "image_size": 16, "validation": 0.1, "seed": 0},
    "subsets": {"small": 40},
    "models": {"vit": {"arch": "vit", "kwargs": {"embed_dim": 16, "depth": 2, "num_heads": 2}}},
    "study": {"models": ["vit"], "subsets": ["small"], "seeds": [0, 1]},
    "train": {"epochs": 2, "batch_size": 20, "learning_rate": 0.001, "threads": 1},
    "compare": {"pairs": [], "images": 20, "batch_size": 10},
}


@pytest.fixture(scope="module")
def postgres():
    """The environment of commands for a database of the test's own."""
    with running_database() as environment:
        yield environment


@pytest.fixture(scope="module")
def page():
    """The commands of the page by its headings."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.M)[1:]
    return {
        title: "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.S))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(scope="module")
def server(postgres, page, tmp_path_factory):
    """The page's server, with its account `ada`."""
    folder = tmp_path_factory.mktemp("team")

    def run(commands: str, where: Path, given: str = "") -> None:
        done = subprocess.run(
            ["bash", "-ec", commands], cwd=where, env={**os.environ, **postgres}, input=given,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    run(page["Once"], folder)
    own = folder / "zoo-server"
    assert own.stat().st_mode & 0o077 == 0
    started = Server(own, page["Start"].replace("5000", "PORT"), **postgres)
    try:
        started.start()
        run(page["Accounts"].replace("5000", str(started.port)), own, f"ada\n{PASSWORD}\n")
        yield started
    finally:
        started.kill()


@pytest.fixture
def ada(server, monkeypatch):
    """The three variables that are all a user needs."""
    for name, value in {
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_TRACKING_USERNAME": "ada",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }.items():
        monkeypatch.setenv(name, value)


def test_two_users_train_register_and_compare_at_once(
    server, postgres, ada, tmp_path, make_folder, digits_folder
):
    test_digest = load_subset(digits_folder / "test").info.digest
    shared = make_folder(
        name="shared", test_digest=test_digest, class_names=[str(i) for i in range(10)]
    )
    users = [start_user(tmp_path / name, seed, digits_folder, shared)
             for seed, name in enumerate(("one", "two"))]  # fmt: skip
    try:
        for _ in range(3):  # each begins with the next step when both have done the last
            said = [wait_for(user, "ready") for user in users]
            for user in users:
                user.stdin.write("go\n")
                user.stdin.flush()
        said += [wait_for(user, "done") for user in users]
        ends = [user.wait(timeout=60) for user in users]
    finally:
        for user in users:
            user.kill()
            user.communicate()
    assert ends == [0, 0]
    assert all("CKA" in text for text in said[-2:])

    store = open_store(tmp_path / "here")
    rows = [(row.name, row.version, row.seed) for row in list_versions(store)]
    assert rows[0] == ("shared", 1, 0)
    assert {row[1:] for row in rows[1:]} in ({(1, 0), (2, 1)}, {(1, 1), (2, 0)})
    runs = search_runs(store, TRAIN)
    assert sorted(run.info.run_name for run in runs) == ["shared-0", "vit-small-0", "vit-small-1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(store.client.search_logged_models([store.experiment_id(TRAIN)])) == 3
    assert len(search_runs(store, TEST_IMAGES)) == 1
    for run in runs:
        history = store.client.get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in history] == [1, 2]
    best = max(rows[1:], key=lambda row: accuracy(store, f"vit-small/{row[1]}"))
    assert resolve(store, "vit-small@best").version == best[1]
    assert (
        load("shared", store=store)(load_subset(digits_folder / "test").images[:2]).shape[1] == 10
    )
    compared = search_runs(store, COMPARE)
    assert [run.info.status for run in compared] == ["FINISHED"]
    page = fetch_file(store, compared[0].info.artifact_uri, "report.html", tmp_path)
    assert "<title>" in page.read_text()

    told = "".join(said) + server.log.read_text()
    assert "Traceback" not in told
    dumped = subprocess.run(
        ["pg_dump", "zoo"], env={**os.environ, **postgres}, capture_output=True, check=True
    ).stdout
    assert b"vit-small" in dumped
    assert_nowhere(PASSWORD, told.encode(), dumped, server.folder, tmp_path)


def test_one_alias_by_many_at_once(server, ada, tmp_path, make_folder):
    store = open_store(tmp_path / "here")
    versions = [
        str(register(store, make_folder(name="shared-alias", seed=seed)).version)
        for seed in range(4)
    ]
    with ThreadPoolExecutor(len(versions)) as pool:
        for turn in range(10):
            put = partial(set_alias, store, "shared-alias", f"turn-{turn}")
            list(pool.map(put, versions))
    aliases = store.client.get_registered_model("shared-alias").aliases
    assert {f"turn-{turn}" for turn in range(10)} < aliases.keys()
    assert {str(number) for number in aliases.values()} <= set(versions)


class Disturbed:
    """A client before whose `at`-th request something happens."""

    def __init__(self, client, at, happen) -> None:
        self.client, self.at, self.happen, self.asked = client, at, happen, 0

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def ask(*arguments, **named):
            self.asked += 1
            if self.asked == self.at:
                self.happen()
            return method(*arguments, **named)

        return ask


def disturbed(store, at, happen):
    return dataclasses.replace(store, client=Disturbed(store.client, at, happen), _experiments={})


def assert_complete(store, name):
    assert [version.version for version in all_versions(store, f"name = '{name}'")] == ["1"]
    runs = search_runs(store, TRAIN, name=name)
    assert [run.info.status for run in runs] == ["FINISHED"]
    history = store.client.get_metric_history(runs[0].info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2]


def test_a_client_that_is_killed_leaves_nothing_that_is_not_named(
    server, ada, tmp_path, make_folder
):
    for at in range(
        1, 1000, 8
    ):  # tests/registry/test_faults.py: at every request, without a server
        name = f"killed-{at}"
        folder, root = make_folder(name=name), tmp_path / str(at)
        root.mkdir()
        child = os.fork()
        if not child:
            try:
                killing = functools.partial(os.kill, os.getpid(), signal.SIGKILL)
                register(disturbed(open_store(root), at, killing), folder)
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        store = open_store(root)
        running = [
            run.info.run_id
            for run in search_runs(store, TRAIN, name=name)
            if run.info.status == "RUNNING"
        ]
        left = [found.label for found in find_leftovers(root)]
        assert sorted(label[-33:-1] for label in left) == sorted(running)
        register(store, folder)
        assert_complete(store, name)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert at > 20


def test_a_database_that_restarts_in_between_costs_nothing(
    server, postgres, ada, tmp_path, make_folder
):
    store = open_store(tmp_path)
    for at in range(2, 1000, 12):
        folder = make_folder(name=f"restarted-{at}")
        disturbing = disturbed(store, at, functools.partial(restart_database, postgres))
        with contextlib.suppress(UserError):
            register(disturbing, folder)
        register(store, folder)
        assert_complete(store, f"restarted-{at}")
        if disturbing.client.asked < at:
            break
    assert at > 20


def test_a_database_that_restarts_while_a_comparison_is_made_costs_nothing(
    server, postgres, ada, tmp_path, make_folder, digits_folder
):
    store = open_store(tmp_path)
    known = {"class_names": [str(digit) for digit in range(10)]}
    for name in ("left", "right"):
        register(store, make_folder(name=name, seed=len(name), **known))
    models = [resolve(store, name) for name in ("left", "right")]
    for at in range(2, 1000, 6):

        def compare(store, count=20 + at):
            return compare_registered(
                store, models, tmp_path / "report", data=digits_folder / "test", count=count,
                only=["accuracy"], settings=Settings(references=False, batch_size=20),
            )  # fmt: skip

        disturbing = disturbed(store, at, functools.partial(restart_database, postgres))
        with contextlib.suppress(UserError):
            compare(disturbing)
        runs = search_runs(store, COMPARE, comparison_digest=compare(store).report["digest"])
        assert [run.info.status for run in runs] == ["FINISHED"]
        assert list(find_leftovers(tmp_path)) == []
        if disturbing.client.asked < at:
            break
    assert at > 8


def test_a_wrong_password_ends_in_one_line_that_does_not_hold_it(server, ada, tmp_path):
    wrong = "not/ada's@password"
    for address, password in (
        (server.uri, wrong),
        (server.uri.replace("//", f"//ada:{wrong}@"), ""),
    ):
        environment = os.environ | {"MLFLOW_TRACKING_URI": address}
        environment |= {"MLFLOW_TRACKING_PASSWORD": password} if password else {}
        done = subprocess.run(
            ["zoo", "list"], env=environment, cwd=tmp_path,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("Error: ")
        assert_nowhere(wrong, done.stderr.encode(), tmp_path)
        assert "not/ada" not in done.stderr


def test_the_page_shows_how_zoo_is_used(server, page, postgres, tmp_path):
    done = subprocess.run(
        ["bash", "-ec", page["Use"].replace("5000", str(server.port))], cwd=tmp_path,
        env={**os.environ, **postgres}, input=f"ada\n{PASSWORD}\n",
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert PASSWORD not in done.stdout


def test_versions_come_from_the_servers_own_artifacts_alone(ada, tmp_path):
    client = open_store(tmp_path).client
    client.create_registered_model("elsewhere")
    with pytest.raises(MlflowException, match="Invalid model version source"):
        client.create_model_version("elsewhere", "https://elsewhere.example/model")


def test_the_password_is_on_no_command_line(server):
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in session(server.process.pid)]
    secrets = dict(
        line.split("=", 1) for line in (server.folder / "server.env").read_text().splitlines()
    )
    assert lines
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        assert len(secrets[name]) == 64
        assert_nowhere(secrets[name], *lines)
    assert all(b"0.0.0.0" not in line for line in lines)


def start_user(folder: Path, seed: int, subsets: Path, shared: Path) -> subprocess.Popen:
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(seed), str(subsets), str(shared), repr(PARAMS)],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def wait_for(user: subprocess.Popen, word: str) -> str:
    """Return what a user's process says up to a word of its own; fail where it ends before."""
    said = []
    for line in user.stdout:
        said.append(line)
        if line.strip() == word:
            return "".join(said)
    raise AssertionError("".join(said))


def accuracy(store, reference: str) -> float:
    return float(resolve(store, reference).tags["zoo.validation_accuracy"])


def assert_nowhere(secret: str, *places: bytes | Path) -> None:
    """Look for a secret in texts and in every file below folders."""
    for place in places:
        if isinstance(place, bytes):
            assert secret.encode() not in place
            continue
        for path in place.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path
