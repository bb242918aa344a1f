from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from zoo.data.subsets import SubsetInfo, content_digest
from zoo.files import write_json, write_text
from zoo.models.build import build, count_parameters
from zoo.models.files import save_model
from zoo.models.spec import ModelSpec
from zoo.registry import configure_mlflow, pictures
from zoo.registry.history import History
from zoo.registry.local_database import DATABASE
from zoo.registry.pictures import draw_learning_curve
from zoo.registry.store import Store, open_store

configure_mlflow()  # as every program of zoo does

SIZE, CLASSES = 16, ["a", "b", "c"]
TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}
HISTORY = (
    "epoch,step,train/loss,train/accuracy,validation/loss,validation/accuracy,learning_rate,seconds\n"
    "1,2,1.5,0.3,1.4,0.35,0.001,0.25\n"
    "2,4,1.25,0.5,1.3,0.45,0.0005,0.26\n"
)
STEPS = (
    "step,train/step_loss,learning_rate\n1,1.6,0.001\n2,1.4,0.0009\n3,1.3,0.0007\n4,1.2,0.0005\n"
)

START_SECONDS = 120
MLFLOW_SERVER = (
    "export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false; "  # eight processes more
    f"exec {sys.executable} -m mlflow server --host 127.0.0.1 --port PORT --workers 1 "
    "--backend-store-uri sqlite:///mlflow.db --artifacts-destination served"
)

MakeFolder = Callable[..., Path]


class Server:
    """An MLflow server on loopback, whose processes are a session of their own."""

    def __init__(self, folder: Path, command: str, **environment: str) -> None:
        """Say how it is started: `PORT` in the command stands for a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder, self.log = folder, folder / "server.log"
        self.command = command.replace("PORT", str(self.port))
        self.environment = environment
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-ec", self.command], cwd=self.folder, stdout=log, stderr=log,
                env={**os.environ, **self.environment}, start_new_session=True,
            )  # fmt: skip
        for _ in range(START_SECONDS * 10):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5)
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        pytest.fail("the server did not start")

    def kill(self) -> None:
        """Kill the server as a power cut would; return when no process of it is left."""
        if self.process is None:
            return
        for _ in range(100):
            alive = session(self.process.pid)
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            if not alive:
                break
            time.sleep(0.05)
        self.process.wait(timeout=10)
        assert session(self.process.pid) == []


def session(leader: int) -> list[int]:
    """Return the processes of a session that still run."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if session_of(pid) == leader]


def session_of(pid: int) -> int | None:
    """Return the session of a process; None where it has ended, even if nobody asked how."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make an empty database; tests copy this one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        root = tmp_path_factory.mktemp("empty")
        open_store(root)
    return root / DATABASE


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        *("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _each_curve_once() -> Iterator[None]:
    """Draw no learning curve twice: its picture takes half the time of registering."""
    drawn: set[str] = set()

    def draw(history: History, name: str) -> Figure:
        known = f"{name} {history}"
        if known in drawn:
            return Figure((1, 1))
        drawn.add(known)
        return draw_learning_curve(history, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw_learning_curve", draw)
        yield


@pytest.fixture
def root(tmp_path: Path, database: Path) -> Path:
    shutil.copyfile(database, tmp_path / DATABASE)
    return tmp_path


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(root)


def write_model(
    parent: Path, seed: int = 0, *, validation: float = 0.5, history: bool = True, **spec: object
) -> Path:
    """Write the folder of a tiny ViT, as training leaves it."""
    classes = spec.get("class_names", CLASSES)
    torch.manual_seed(seed)
    module = build("vit", classes=len(classes), image_size=SIZE, **TINY)
    known = {
        "name": "vit-small",
        "arch": "vit",
        "kwargs": TINY,
        "image_size": SIZE,
        "class_names": CLASSES,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "source": "digits",
        "subset": "small",
        "subset_count": 100,
        "subset_digest": "5" * 64,
        "test_digest": "7" * 64,
        "seed": seed,
        "parameters": count_parameters(module),
        "metrics": {"test/accuracy": 0.44, "validation/accuracy": validation},
        "training": {"epochs": 2, "optimizer": "adam"},
        "environment": {"torch": "2.15.0", "threads": "1"},
    }
    full = ModelSpec(**(known | spec))
    folder = parent / f"{full.name}-{seed}-{validation}"
    save_model(folder, module, full)
    if history:
        write_text(folder / "epochs.csv", HISTORY)
        write_text(folder / "steps.csv", STEPS)
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Return `write_model` for the test's own folder."""
    return functools.partial(write_model, tmp_path)


def write_split(folder: Path, count: int, seed: int) -> SubsetInfo:
    """Write a test split of random images, sorted by class as image folders are."""
    random = np.random.RandomState(seed)
    folder.mkdir()
    images = random.randint(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    labels = np.sort(random.randint(0, len(CLASSES), count)).astype(np.int64)
    info = SubsetInfo(
        name="test",
        source="digits",
        class_names=CLASSES,
        image_size=SIZE,
        count=count,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        digest=content_digest(images, labels, CLASSES),
        seed=0,
        indices=list(range(count)),
    )
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    write_json(folder / "subset.json", dataclasses.asdict(info))
    return info


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[..., SubsetInfo]:
    """Return a function that writes a test split of so many images as `tmp_path/NAME`."""
    return lambda name, count, seed=0: write_split(tmp_path / name, count, seed)


@pytest.fixture
def test_split(tmp_path: Path) -> Path:
    write_split(tmp_path / "test", 12, 0)
    return tmp_path / "test"
