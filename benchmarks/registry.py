"""Registering, loading and listing: seconds, and their ratio to MLflow's own PyTorch flavor.

After all imports, on a new SQLite store, taking turns with `mlflow.pytorch` in the same run:
register a ResNet-18 of 45 MB (there `log_model` as pickle, the faster of its two formats, with
a registered name), and load it. Then `zoo list` as a command, imports included, and the listing
alone, of 1,000 and 10,000 versions.

    python -m benchmarks.registry [--repeats 3] [--versions 1000 10000]
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import mlflow
import torch

from zoo.models.build import build, count_parameters
from zoo.models.files import save_model
from zoo.models.spec import ModelSpec
from zoo.registry.listing import list_versions
from zoo.registry.local_database import DATABASE
from zoo.registry.register import register
from zoo.registry.resolve import load
from zoo.registry.store import Store, open_store
from zoo.registry.uploads import model_tags

CLASSES = [str(i) for i in range(10)]
OF_A_NAME = 10  # versions
SAME = (("register", "log_model"), ("load", "load_model"))  # what zoo does, and MLflow


class Times:
    """Wall and CPU seconds of something done several times; CPU counts child processes too."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def add(self, act: Callable[[], object]) -> None:
        cpu, wall = sum(os.times()[:4]), time.perf_counter()
        act()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(sum(os.times()[:4]) - cpu)

    def __str__(self) -> str:
        return f"{statistics.median(self.wall):.2f} s ({statistics.median(self.cpu):.2f} s CPU)"


def spec_of(seed: int, parameters: int = 0) -> ModelSpec:
    known = {"source": "digits", "subset": "small", "metrics": {"test/accuracy": 0.5}}
    return ModelSpec(
        "resnet18", "resnet18", 32, CLASSES, [0.5] * 3, [0.25] * 3, seed=seed,
        parameters=parameters, **known,
    )  # fmt: skip


def against_mlflow(root: Path, repeats: int) -> tuple[dict[str, Times], float]:
    """Return what each way of registering and loading took, and the MB of the model."""
    store = open_store(root)
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment(experiment_id=store.experiment_id("zoo-train"))
    times = {what: Times() for what in ("register", "log_model", "load", "load_model")}
    for seed in range(repeats + 1):  # the first one warms up
        torch.manual_seed(seed)
        module = build("resnet18", classes=10, image_size=32).eval()
        folder = root / f"model-{seed}"
        save_model(folder, module, spec_of(seed, count_parameters(module)))
        name = f"theirs/{seed + 1}"
        for what, act in {
            "register": lambda folder=folder: register(store, folder),
            "log_model": lambda module=module: log_theirs(module),
            "load": lambda seed=seed: load(f"resnet18/{seed + 1}", store=store),
            "load_model": lambda name=name: mlflow.pytorch.load_model(f"models:/{name}"),
        }.items():
            if seed:
                times[what].add(act)
            else:
                act()
    return times, (folder / "model.safetensors").stat().st_size / 1e6


def tell(times: dict[str, Times], megabytes: float) -> None:
    for ours, theirs in SAME:
        wall, cpu = (
            statistics.median(getattr(times[ours], kind))
            / statistics.median(getattr(times[theirs], kind))
            for kind in ("wall", "cpu")
        )
        print(
            f"{ours} {megabytes:.0f} MB: {times[ours]}; mlflow.pytorch.{theirs} {times[theirs]}; "
            f"ratio {wall:.2f} ({cpu:.2f} CPU); medians of {len(times[ours].wall)}"
        )


def log_theirs(module: torch.nn.Module) -> None:
    with mlflow.start_run():
        mlflow.pytorch.log_model(
            module, name="model", registered_model_name="theirs", serialization_format="pickle"
        )


def fill(store: Store, root: Path, count: int) -> None:
    """Write versions straight into MLflow's tables: registering so many would take an hour."""
    now, card = int(time.time() * 1000), "x" * 1500
    names = [f"vit-{i:04}" for i in range(count // OF_A_NAME)]
    versions = [(name, version) for name in names for version in range(1, OF_A_NAME + 1)]
    tags = model_tags(spec_of(0, 11_173_962), "a" * 64) | {"zoo.model_id": "m-" + "0" * 32}
    with closing(sqlite3.connect(root / DATABASE)) as database, database:
        database.executemany(
            "INSERT INTO registered_models (name, creation_time, description) VALUES (?, ?, ?)",
            [(name, now, card) for name in names],
        )
        database.executemany(
            "INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, 'best', 3)",
            [(name,) for name in names],
        )
        database.executemany(
            "INSERT INTO model_versions (name, version, creation_time, last_updated_time, "
            "description, current_stage, source, run_id, status) "
            f"VALUES (?, ?, {now}, {now}, '{card}', 'None', 'file:///x', '{'0' * 32}', 'READY')",
            versions,
        )
        database.executemany(
            "INSERT INTO model_version_tags (name, version, key, value) VALUES (?, ?, ?, ?)",
            [(*version, key, value) for version in versions for key, value in tags.items()],
        )


def listing(root: Path, count: int, repeats: int) -> None:
    root.mkdir()
    store = open_store(root)
    fill(store, root, count)
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "list", "--limit", "20"]
    whole, alone = Times(), Times()
    for _ in range(repeats):
        whole.add(lambda: subprocess.run(command, cwd=root, check=True, capture_output=True))
        alone.add(lambda: list_versions(store))
    print(
        f"zoo list of {len(list_versions(store)):,} versions: {whole} as a command, "
        f"{alone} after imports; medians of {repeats}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--versions", type=int, nargs="*", default=[1000, 10000])
    options = parser.parse_args()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    print(
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, mlflow {mlflow.__version__}, SQLite {sqlite3.sqlite_version}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        tell(*against_mlflow(root, options.repeats))
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # where mlflow.set_tracking_uri puts it
        for count in options.versions:
            listing(root / str(count), count, options.repeats)


if __name__ == "__main__":
    main()
