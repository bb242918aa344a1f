"""A week with a study, as docs/studies.md tells it: what is tried changes nothing that was kept."""

import json
import shutil
import subprocess
import urllib.request

import pytest
import yaml

from tests.registry.conftest import MLFLOW_SERVER, Server
from tests.test_pipeline import clone
from tests.warm import run

pytestmark = pytest.mark.slow
COMPARE = ("compare", "vit-small", "mixer-small", "--only", "cka", "--images", "40")


@pytest.fixture
def study(project, monkeypatch):
    """A committed study of two tiny networks on forty digits, as the working folder."""
    root = clone(project / "study")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["subsets"] = {"small": 40}
    params["study"]["subsets"] = ["small"]
    params["compare"] |= {"pairs": [["vit-small", "mixer-small"]], "only": ["accuracy"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    commit(root, "study")
    monkeypatch.chdir(root)
    return root


def commit(root, message):
    for command in ("add -A", f"-c user.name=t -c user.email=t@t commit -qm {message}"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)


@pytest.fixture
def listed(zoo):
    """What `zoo list` says of every version: its aliases and the experiment that made it."""
    return lambda: {
        f"{row['name']}/{row['version']}": (row["aliases"], row["experiment"])
        for row in json.loads(zoo("list", "--json"))
    }


@pytest.fixture
def shown(zoo):
    """What `zoo show vit-small` means: the version, and for how many epochs it was trained."""

    def shown(reference="vit-small"):
        known = json.loads(zoo("show", reference, "--json"))
        return known["version"], known["spec"]["training"]["epochs"]

    return shown


def bearers(listed, alias):
    """The versions that bear an alias."""
    return sorted(version for version, (aliases, _) in listed.items() if alias in aliases)


def test_a_week(study, zoo, listed, shown):
    own = ["best", "current"], ""
    report = study / "reports" / "vit-small__mixer-small" / "report.json"

    # Monday: the study is trained, compared and committed; a report is made and kept.
    run(study, "dvc", "repro")
    commit(study, "monday")
    monday = {"mixer-small/1": own, "vit-small/1": own}
    assert listed() == monday
    assert shown() == (1, 2)
    assert (study / "comparisons" / "vit-small__mixer-small" / "report.html").is_file()
    assert not (study / "reports").exists()
    assert "models   vit-small/1, mixer-small/1" in zoo(*COMPARE)
    kept = report.read_bytes()
    assert "all is well" in zoo("verify")

    # Tuesday: an experiment is tried. It is there, and changes no name and no report.
    run(study, "dvc", "exp", "run", "-S", "train.epochs=1", "-n", "short")
    tuesday = monday | {"mixer-small/2": ([], "short"), "vit-small/2": ([], "short")}
    assert listed() == tuesday
    assert (shown(), shown("vit-small/2")) == ((1, 2), (2, 1))
    assert report.read_bytes() == kept
    again = run(study, "zoo", *COMPARE)
    assert again.stdout.startswith("Found: ")
    assert "vit-small is version 1, the current one; newer: vit-small/2 (experiment short)" in (
        again.stderr
    )
    assert report.read_bytes() == kept
    found = run(study, "zoo", "verify", check=False)
    assert found.returncode == 3
    assert "models/vit-small-0    of the experiment short; `dvc repro` keeps it" in found.stdout

    # Wednesday: it is discarded.
    run(study, "git", "checkout", "-q", ".")
    run(study, "dvc", "checkout")
    assert "all is well" in zoo("verify")
    assert "Running stage 'train" not in run(study, "dvc", "repro", "register").stdout
    assert listed() == tuesday
    assert run(study, "git", "status", "--porcelain").stdout == ""

    # Thursday: another is tried and kept.
    run(study, "dvc", "exp", "run", "-S", "train.epochs=4", "-n", "long", "register")
    assert shown() == (1, 2)
    assert "Running stage 'train" not in run(study, "dvc", "repro", "register").stdout
    assert shown() == (3, 4)
    assert listed()["vit-small/2"] == ([], "short")
    assert listed()["vit-small/3"][1] == ""
    assert bearers(listed(), "current") == ["mixer-small/3", "vit-small/3"]
    best = bearers(listed(), "best")
    assert [name.partition("/")[0] for name in best] == ["mixer-small", "vit-small"]
    assert "all is well" in zoo("verify")
    assert report.read_bytes() == kept
    commit(study, "thursday")

    # Friday: the older parameters are wanted back.
    run(study, "git", "checkout", "-q", "HEAD~1", "--", ".")
    run(study, "dvc", "checkout")
    assert zoo("register").count("was there, now current") == 2
    assert shown() == (1, 2)
    assert bearers(listed(), "current") == ["mixer-small/1", "vit-small/1"]
    assert bearers(listed(), "best") == best
    assert "all is well" in zoo("verify")
    assert report.read_bytes() == kept


@pytest.fixture
def shared(tmp_path_factory, monkeypatch):
    """What names a tracking server to a process; this one's, too."""
    server = Server(tmp_path_factory.mktemp("server"), MLFLOW_SERVER)
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        yield {"MLFLOW_TRACKING_URI": server.uri}
    finally:
        server.kill()


def test_a_teammate_registers_to_the_same_server(
    study, project, shared, monkeypatch, zoo, listed, shown
):
    run(study, "dvc", "remote", "add", "-d", "store", str(project / "store"))
    run(study, "dvc", "repro", "register", **shared)
    commit(study, "monday")
    run(study, "dvc", "push", "-q")
    before = listed()
    assert before["vit-small/1"] == (["best", "current"], "")

    mate = project / "mate"
    subprocess.run(["git", "clone", "-q", str(study), str(mate)], check=True)
    run(mate, "dvc", "pull", "-q", check=False)  # the stages that were not run have nothing
    monkeypatch.chdir(mate)
    assert zoo("register").count("was there") == 2
    assert listed() == before
    assert "all is well" in zoo("verify")
    with monkeypatch.context() as alone:  # in a registry of their own: nothing is trained for it
        alone.delenv("MLFLOW_TRACKING_URI")
        assert zoo("register").count("registered") == 2
        assert list(listed()) == list(before)
        assert "all is well" in zoo("verify")
    run(mate, "dvc", "exp", "run", "-S", "train.epochs=3", "-n", "mates", "register", **shared)
    monkeypatch.chdir(study)
    assert shown() == (1, 2)
    assert listed() == before | {
        "mixer-small/2": ([], "mates"),
        "vit-small/2": ([], "mates"),
    }


@pytest.fixture
def bucket(monkeypatch):
    """The address of a server that speaks S3, with an empty bucket `store`."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    server.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    address = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/store", method="PUT"))
    yield address
    server.stop()


def test_a_second_machine_makes_the_same_registry_out_of_an_s3_remote(
    bucket, study, project, monkeypatch, zoo
):
    def digests():
        rows = json.loads(zoo("list", "--json"))
        return {f"{row['name']}/{row['version']}": row["digest"] for row in rows}

    run(study, "dvc", "remote", "add", "-d", "store", "s3://store/study")
    run(study, "dvc", "remote", "modify", "store", "endpointurl", bucket)
    run(study, "dvc", "repro", "register")
    commit(study, "monday")
    run(study, "dvc", "push", "-q")
    before = digests()
    shutil.rmtree(study / ".dvc" / "cache")  # nothing comes from it

    second = project / "second"
    subprocess.run(["git", "clone", "-q", str(study), str(second)], check=True)
    run(second, "dvc", "pull", "-q", check=False)  # the stages that were not run have nothing
    monkeypatch.chdir(second)
    assert zoo("register").count("registered") == 2
    assert digests() == before
    assert len(before) == 2
    assert "all is well" in zoo("verify")
