"""`zoo doctor`: every finding, provoked."""

import json
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock

from zoo.errors import UserError
from zoo.project import doctor
from zoo.project.doctor import (
    LOCK_FIXES,
    Check,
    check_data,
    check_dvc,
    check_leftovers,
    check_params,
    check_store,
    examine,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def healthy(monkeypatch):
    """Leave out what takes seconds to import."""
    monkeypatch.setattr(doctor, "check_torchvision", lambda: [])
    monkeypatch.setattr(doctor, "check_device", lambda: [Check("device", "ok", "cpu")])


@pytest.fixture
def of_project(project, digits_folder):
    """A project as it is shipped, with subsets."""
    for name in ("params.yaml", "dvc.yaml"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    (project / "data").mkdir()
    (project / "data" / "subsets").symlink_to(digits_folder)
    return project


def test_outside_a_project_the_installation_is_examined(zoo, project, healthy):
    printed = zoo("doctor")
    assert printed.splitlines()[0].startswith("ok       python       3.")
    assert "none yet" in printed
    assert printed.splitlines()[-1].split()[:3] == ["project", "none", "in"]
    assert list(project.iterdir()) == []  # nothing is made
    found = json.loads(zoo("doctor", "--json"))
    assert [check["name"] for check in found] == ["python", "packages", "device", "disk", "store"]
    assert set(found[0]) == {"name", "status", "found", "fix"}


def test_a_project_is_examined_whole(zoo, of_project, healthy, monkeypatch):
    monkeypatch.setattr(doctor, "check_dvc", lambda _: [Check("dvc", "warning", "late", "fix")])
    printed = zoo("doctor")
    assert "params.yaml: 6 variants to train" in printed
    assert "small 40" in printed
    assert "digests are right" in printed
    assert "→ fix" in printed
    quiet = zoo("-q", "doctor").splitlines()
    assert [line.split()[0] for line in quiet] == ["warning", "→"]
    (of_project / "params.yaml").write_text("data: 3")
    zoo("doctor", status=2)


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on():
    def check_a():
        raise UserError("a is bad; fix it")

    def check_b():
        raise ImportError("libb.so:\n not found")

    def check_d():
        raise PermissionError(13, "Permission denied", "x.lock")

    found = list(examine([check_a, check_b, lambda: [Check("c", "ok", "fine")], check_d]))
    assert found == [
        Check("a", "wrong", "a is bad", "fix it"),
        Check("b", "wrong", "ImportError: libb.so: not found", "install zoo again: make setup"),
        Check("c", "ok", "fine"),
        Check(
            "d", "wrong", "PermissionError: [Errno 13] Permission denied: 'x.lock'",
            "zoo -v doctor says where it arose",
        ),
    ]  # fmt: skip


def installed(monkeypatch, **versions):
    real = metadata.version

    def version(name):
        if versions.get(name) is None and name in versions:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)


def test_packages_are_compared_with_the_ranges_of_the_project(monkeypatch):
    assert [(c.name, c.status) for c in doctor.check_packages()] == [
        ("python", "ok"),
        ("packages", "ok"),
    ]
    installed(monkeypatch, torch="1.13.0", mlflow="4.0.1", dvc=None)
    found = {c.name: c for c in doctor.check_packages()}
    assert "packages" not in found
    assert found["torch"].found.startswith("1.13.0, expected >=2")
    assert found["dvc"].found.startswith("not installed")
    assert found["mlflow"].status == "wrong"
    assert found["mlflow"].fix.startswith("pip install 'mlflow")


def test_a_torchvision_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (found,) = doctor.check_torchvision()
    assert found.status == "wrong"
    assert "cannot be imported" in found.found


def test_more_threads_than_cores_are_named(monkeypatch):
    import torch

    (fine,) = doctor.check_device()
    assert (fine.status, fine.found.split()[0]) == ("ok", "cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    threads = list(doctor.check_device())[1]
    assert threads.status == "warning"
    assert threads.found.startswith("99 threads on ")


def test_where_training_runs_is_named_where_comparing_does_not(monkeypatch):
    import torch

    (same,) = doctor.check_device()
    assert "training" not in same.found
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    (apart,) = doctor.check_device()
    assert apart.found.startswith("cpu (")
    assert "; for training mps)" in apart.found


@pytest.mark.parametrize(
    ("free", "status"), [(100 << 30, "ok"), (1 << 30, "warning"), (1 << 20, "wrong")]
)
def test_little_room_on_the_disk_is_named(monkeypatch, tmp_path, free, status):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (found,) = doctor.check_disk(tmp_path)
    assert found.status == status
    assert bool(found.fix) == (status != "ok")
    # Models and images come from the registry; kept passes and own fingerprints do not.
    assert ("fetched or computed again" in found.fix) == bool(found.fix)


def test_a_store_is_looked_into_and_never_made(registered, tmp_path, monkeypatch):
    (found,) = check_store(registered)
    assert found.found.endswith("mlflow.db: 2 versions of 2 models")
    (none,) = check_store(tmp_path)
    assert none.status == "ok"
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (away,) = examine([lambda: check_store(tmp_path)])
    assert away.status == "wrong"
    assert "no answer from the tracking server http://127.0.0.1:9" in away.found


def test_wrong_params_are_named(of_project):
    content = yaml.safe_load((of_project / "params.yaml").read_text())
    content["train"]["epohcs"] = 3
    (of_project / "params.yaml").write_text(yaml.safe_dump(content))
    (found,) = examine([lambda: check_params(of_project)])
    assert found.status == "wrong"
    assert "did you mean 'epochs'" in f"{found.found}; {found.fix}"
    (of_project / "params.yaml").write_text("data: {\n\nx")
    (found,) = examine([lambda: check_params(of_project)])
    assert "is not valid YAML" in found.found
    assert "\n" not in found.found


@pytest.mark.parametrize(
    ("section", "key", "value", "found"),
    [
        ("data", "source", "digitz", "unknown source 'digitz'"),
        ("subsets", "small", 0, "subsets.small: expected 1 to 2147483647 images"),
        ("compare", "only", ["ckaa"], "compare: unknown analysis 'ckaa'"),
        ("train", "epochs", {"smal": 20}, "no entry for the subset 'small'"),
        ("models", "vit", {"arch": "vitt"}, "models.vit.arch: unknown arch 'vitt'"),
        ("study", "seeds", [0, 0], "study.seeds: expected each of them once"),
    ],
)
def test_params_that_a_later_stage_would_refuse_are_named(of_project, section, key, value, found):
    content = yaml.safe_load((of_project / "params.yaml").read_text())
    content[section][key] = value
    (of_project / "params.yaml").write_text(yaml.safe_dump(content))
    (check,) = examine([partial(check_params, of_project)])
    assert check.status == "wrong"
    assert found in check.found
    assert check.fix


def test_missing_and_damaged_data_are_named(of_project, digits_folder):
    (of_project / "data" / "subsets").unlink()
    (none,) = check_data(of_project)
    assert (none.status, none.fix) == ("warning", "dvc repro subset")
    copy = of_project / "data" / "subsets" / "small"
    copy.mkdir(parents=True)
    for file in (digits_folder / "small").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert [c.status for c in check_data(of_project)] == ["ok"]
    changed = bytearray((copy / "images.npy").read_bytes())
    changed[-1] ^= 1
    (copy / "images.npy").write_bytes(changed)
    (damaged,) = check_data(of_project)
    assert damaged.status == "wrong"
    assert "expected digest" in damaged.found
    assert damaged.fix == "build it again with: dvc repro --force subset"


@pytest.mark.parametrize(
    ("code", "out", "error", "status", "found"),
    [
        (0, '{"register": ["always changed"]}', "", "ok", "every stage is up to date"),
        (0, "{}", "", "ok", "every stage is up to date"),
        (
            0,
            '{"subset": [{"changed deps": {}}], "a": [1], "b": [1], "c": [1]}',
            "",
            "warning",
            "4 stages out of date: subset, a, b, …",
        ),
        (0, '{"subset": [{"changed deps": {}}]}', "", "warning", "1 stage out of date: subset"),
        (255, "", "ERROR: dvc.yaml is broken\nmore", "wrong", "dvc.yaml is broken"),
        (1, "", "No module named dvc", "wrong", "No module named dvc"),
        (
            255,
            "",
            "'dvc.lock' is bad.\n\nexpected str\n",
            "wrong",
            "'dvc.lock' is bad. expected str",
        ),
        (
            255,
            "",
            "ERROR: 'data/subsets' is busy, it is being blocked by:\n  (PID 7): dvc repro\n",
            "ok",
            "another dvc is at work in this project",
        ),
    ],
)
def test_the_state_of_dvc_is_one_line(project, monkeypatch, code, out, error, status, found):
    (none,) = check_dvc(project)
    assert (none.status, none.fix[:8]) == ("wrong", "dvc init")
    (project / ".dvc").mkdir()
    done = subprocess.CompletedProcess([], code, out, error)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: done)
    (check,) = check_dvc(project)
    assert (check.status, check.found) == (status, found)


def test_a_dvc_that_takes_too_long_is_no_fault_of_the_installation(project, monkeypatch):
    def late(command, **_):
        raise subprocess.TimeoutExpired(command, doctor.DVC_SECONDS)

    (project / ".dvc").mkdir()
    monkeypatch.setattr(doctor.subprocess, "run", late)
    (found,) = examine([lambda: check_dvc(project)])
    assert (found.name, found.status) == ("dvc", "warning")
    assert found.found == "dvc status took longer than 120 s and was ended"
    assert "install" not in found.fix


@pytest.mark.parametrize("content", ["", "schema: '2.0'\nstages:\n  subset: {cm", "- 1"])
@pytest.mark.parametrize("lock", LOCK_FIXES)
def test_a_lock_of_dvc_that_a_kill_has_damaged_is_named_with_what_to_do(project, lock, content):
    (project / lock).parent.mkdir(parents=True, exist_ok=True)
    (project / ".dvc").mkdir(exist_ok=True)
    (project / lock).write_text(content)
    (found,) = check_dvc(project)
    assert found.status == "wrong"
    assert found.found.startswith(f"{project / lock} is {'damaged' if content else 'empty'}")
    assert f"rm {lock}" in found.fix


def test_interrupted_runs_and_processes_at_work_are_told_apart(project):
    assert list(check_leftovers(project)) == []
    run, locks = project / ".zoo" / "checkpoints" / ("a" * 64), project / ".zoo" / "locks"
    for folder in (run, locks):
        folder.mkdir(parents=True)
    run.with_suffix(".lock").touch()
    (run / "checkpoint.safetensors").touch()
    (locks / "free.lock").touch()
    (stopped,) = check_leftovers(project)
    assert stopped.found.startswith("1 interrupted training run in ")
    with FileLock(run.with_suffix(".lock")):
        (busy,) = check_leftovers(project)
    assert (busy.status, busy.name) == ("ok", "at work")
