"""`zoo map` of many fingerprinted models: seconds, memory, and how they grow.

The models are rows written into MLflow's tables and the fingerprints are made: unit vectors in ten
groups, of seven points on 512 images, as `zoo fingerprint` would leave them in the cache. Timed is
`zoo map` as a command, imports included: it lists the versions, checks every fingerprint, compares
all pairs, finds intervals of the nearest, draws and logs.

    python -m benchmarks.zoo_map [--models 100 1000]
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.registry import Times, fill
from zoo.config import POINTS
from zoo.data.pictures import EvaluationImages
from zoo.data.subsets import SubsetInfo, content_digest, load_subset
from zoo.files import write_bytes, write_json
from zoo.measures.fingerprints import fingerprint_length
from zoo.registry.fingerprints import FOLDER
from zoo.registry.local_database import DATABASE
from zoo.registry.store import Store, open_store
from zoo.study.fingerprint import (
    IMAGES,
    Fingerprint,
    batches_of,
    fingerprint_key,
    write_fingerprint,
)

GROUPS = 10


def make_images(folder: Path) -> EvaluationImages:
    random = np.random.default_rng(0)
    folder.mkdir()
    images = random.integers(0, 256, (IMAGES, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(IMAGES) % 10
    names = [str(i) for i in range(10)]
    digest = content_digest(images, labels, names)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    info = SubsetInfo(
        name="test", source="made", class_names=names, image_size=16, count=IMAGES,
        mean=[0.5] * 3, std=[0.25] * 3, digest=digest, seed=0, indices=list(range(IMAGES)),
    )  # fmt: skip
    write_json(folder / "subset.json", asdict(info))
    return EvaluationImages.of(load_subset(folder)).evenly(IMAGES)


def make_models(store: Store, root: Path, count: int, images: EvaluationImages) -> None:
    """Register so many versions, each with a digest of its own and a fingerprint in the cache."""
    fill(store, root, count)
    with closing(sqlite3.connect(root / DATABASE)) as database, database:
        rows = database.execute("SELECT name, version FROM model_versions").fetchall()
        digests = {row: hashlib.sha256(repr(row).encode()).hexdigest() for row in rows}
        database.executemany(
            "UPDATE model_version_tags SET value = ? "
            "WHERE name = ? AND version = ? AND key = 'zoo.sha256'",
            [(digest, *row) for row, digest in digests.items()],
        )
    batches = batches_of(IMAGES)
    length = fingerprint_length(batches)
    centres = np.random.default_rng(1).normal(size=(GROUPS, length))
    for i, digest in enumerate(digests.values()):
        random = np.random.default_rng(i)
        vectors = {}
        for point in POINTS:
            whole = centres[i % GROUPS] + random.normal(size=length)
            vectors[point] = (whole / np.linalg.norm(whole)).astype(np.float32)
        family = ("vit", "cnn", "mlp")[i % 3]
        found = Fingerprint(family, dict.fromkeys(POINTS, "layer"), batches, vectors)
        key = fingerprint_key(digest, images.digest)
        path = store.cache / FOLDER / f"{key}.safetensors"
        write_bytes(path, write_fingerprint(found, key, {}))


def measure(folder: Path, count: int) -> tuple[Times, float]:
    """Return how long a map takes, and the most memory in MB that any map so far has had."""
    root = folder / str(count)
    root.mkdir()
    images = make_images(root / "test")
    make_models(open_store(root), root, count, images)
    command = [sys.executable, "-c", "from zoo.cli import main; main()"]
    times = Times()
    times.add(
        lambda: subprocess.run(
            [*command, "map", "--data", "test"], cwd=root, check=True, capture_output=True
        )
    )
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return times, kilobytes / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="*", default=[100, 1000])
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    print(
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, numpy {np.__version__}"
    )
    seconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in sorted(options.models):
            times, megabytes = measure(Path(temporary), count)
            seconds[count] = times.cpu[0]
            print(f"{count:,} models: {times}, at most {megabytes:.0f} MB")
    for few, many in pairwise(seconds):
        more = seconds[many] - seconds[few]
        power = math.log(seconds[many] / seconds[few]) / math.log(many / few)
        print(
            f"from {few:,} to {many:,} models: {1000 * more / (many - few):.0f} ms CPU for each "
            f"further one; all of it grows with the power {power:.2f}"
        )


if __name__ == "__main__":
    main()
