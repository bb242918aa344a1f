"""A project, models in it, and the command line run in it."""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.models.files import save_model
from zoo.registry.local_database import DATABASE

ZOO = "from zoo.cli import main; main()"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder as the working folder, with no server."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def zoo(project, monkeypatch, capsys):
    """Run the command line: `zoo("list", "--json")` returns what it printed on stdout.

    Where it fails, with the `status` that is expected, what it printed on stderr.
    """

    def run(*arguments, status=0):
        monkeypatch.setattr("sys.argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == status, printed.out + printed.err
        return printed.out if status == 0 else printed.err

    return run


@pytest.fixture
def save(project, make_model):
    """Save an untrained model as `models/NAME`: `save("vit-small", image_size=24)`."""
    return functools.partial(_save, project, make_model)


def _save(root: Path, make_model, name: str, **known) -> Path:
    model = make_model(name.rsplit("-", 1)[0], name, **known)
    save_model(root / "models" / name, model.module, model.spec)
    return root / "models" / name


@pytest.fixture(scope="session")
def registry(tmp_path_factory, make_model, digits_folder):
    """A project with two small models in its registry, with their test images, made once."""
    from zoo.data.subsets import load_subset
    from zoo.registry.register import register
    from zoo.registry.store import open_store

    root = tmp_path_factory.mktemp("registered")
    digest = load_subset(digits_folder / "test").info.digest
    folders = [
        _save(
            root, make_model, name, seed=i, subset="small", source="digits", subset_count=40,
            subset_digest="d" * 64, test_digest=digest,
            metrics={"test/accuracy": 0.5, "validation/accuracy": 0.4 + i / 10},
        )
        for i, name in enumerate(("vit-small", "vit-gap-small"))
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        store = open_store(root)
        for folder in folders:
            register(store, folder, test_folder=digits_folder / "test")
    return root


@pytest.fixture
def registered(project, registry, monkeypatch):
    """The shared project with two registered models as the working folder; leave it as it is."""
    monkeypatch.chdir(registry)
    yield registry
    shutil.rmtree(registry / "reports", ignore_errors=True)


@pytest.fixture
def kept(project, registry):
    """A copy of the shared registry: its files stay where they are."""
    with closing(sqlite3.connect(registry / DATABASE)) as database:
        database.execute("VACUUM INTO ?", [str(project / DATABASE)])
    return project


@pytest.fixture
def start(project):
    """Start a process in the project: `start("-c", ZOO, "list")` returns a `Popen`."""
    root = Path(__file__).parent.parent.parent

    def start(*arguments, **environment):
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=Path.cwd(),
            env={**os.environ, "PYTHONPATH": str(root), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
