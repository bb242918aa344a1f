"""Training images that stay in their files: rate, waiting and memory on a made folder of JPEGs.

Rates are of CPU seconds, in which other processes on the machine do not count: those of reading
are of all processes together, so that a ratio of 1 to the decoder's own means that nothing but
decoding costs, and that every core reads at the decoder's rate.

    python -m benchmarks.files --count 100000
    python -m benchmarks.files --quick
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from zoo.config import TrainConfig
from zoo.data.augment import Augmentation
from zoo.data.build import build_subsets
from zoo.data.image_files import find_images, read_image, resize
from zoo.data.sources import load_source
from zoo.data.subsets import Subset, load_subset
from zoo.training.batches import TrainingImages, in_order, reading_processes

BATCH, SIDE, PIXELS, CLASSES = 64, 32, (64, 48), 10
QUICK, USUAL = 2_000, 20_000
SLACK = 2  # a step takes so many times as long as reading its images


@dataclass(frozen=True)
class Measured:
    """CPU seconds an image; memory in bytes early and late in an epoch; the share of waiting."""

    images: int
    cut: float
    decoder: float
    reading: float
    early: int
    late: int
    waiting: float


def make_folder(root: Path, count: int) -> None:
    """Write JPEGs of smooth noise, as photographs compress, into folders of classes."""
    random = np.random.default_rng(0)
    for part, share in (("train", 0.9), ("test", 0.1)):
        for label in range(CLASSES):
            folder = root / part / f"class-{label}"
            folder.mkdir(parents=True)
            for i in range(int(count * share) // CLASSES):
                coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                picture = Image.fromarray(coarse).resize(PIXELS, Image.Resampling.BICUBIC)
                picture.save(folder / f"{i:07}.jpg", quality=85)


def cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def memory() -> int:
    """Memory of this process and its children in bytes, what they share counted once."""
    here = psutil.Process()
    return sum(p.memory_full_info().pss for p in (here, *here.children(recursive=True)))


def decoder_seconds(root: Path, count: int) -> float:
    """CPU seconds that an image takes to be read, decoded and scaled, and nothing else."""
    files = find_images(root / "train")[:count]
    began = cpu()
    for file in files:
        resize(read_image(file), SIDE)
    return (cpu() - began) / len(files)


def reading(subset: Subset) -> tuple[float, int, int, float]:
    """Read an epoch; return CPU seconds an image, memory early and late, and the waiting share.

    The first quarter is read as fast as it goes, which says how long later steps are to take.
    """
    config = TrainConfig(BATCH, 1e-3, epochs=1)
    still = Augmentation(config, classes=CLASSES, mean=[0.5] * 3, image_size=SIDE, seed=0)
    order = torch.randperm(len(subset), generator=torch.Generator().manual_seed(0))
    keys = [*enumerate(order.split(BATCH))]
    processes, began = reading_processes(subset), cpu()
    batches = in_order(TrainingImages(subset, config, still, seed=0, ahead=True), keys, processes)
    next(batches)  # the processes have started
    waited, used, looking, step_seconds = 0.0, [], 0.0, 0.0
    quarter, start = len(keys) // 4, time.perf_counter()
    for step in range(1, len(keys)):
        if step == quarter:
            step_seconds = SLACK * (time.perf_counter() - start) / quarter
            waited, start = 0.0, time.perf_counter()
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
        if step in (quarter // 2, len(keys) - 8):  # so far from the end all are still reading
            before = cpu()
            used.append(memory())
            looking += cpu() - before
        time.sleep(step_seconds)
    waiting = waited / (time.perf_counter() - start)
    batches.close()
    return (cpu() - began - looking) / len(subset), used[0], used[1], waiting


def measure(root: Path, count: int) -> Measured:
    photos, subsets = root / "photos", root / "subsets"
    make_folder(photos, count)
    source, began = load_source("imagefolder", photos), cpu()
    options = {"image_size": SIDE, "validation": 0.01, "seed": 0, "root": str(photos)}
    infos = build_subsets(source, {"full": "all"}, subsets, max_array_gb=0, **options)
    cut = (cpu() - began) / sum(info.count for info in infos.values())
    subset = load_subset(subsets / "full")
    alone = decoder_seconds(photos, min(count, 5_000))
    return Measured(len(subset), cut, alone, *reading(subset))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=USUAL, help="JPEGs that are made")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), QUICK if options.quick else options.count)
    print(
        f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}: {found.images:,} "
        f"JPEGs of {PIXELS[0]}×{PIXELS[1]} px as training images of {SIDE} px\n"
        f"decoder alone   {1 / found.decoder:8,.0f} images per CPU second\n"
        f"reading         {1 / found.reading:8,.0f}  ({found.decoder / found.reading:.2f} of it)\n"
        f"cutting         {1 / found.cut:8,.0f}\n"
        f"memory          {found.early / 1e6:8,.0f} MB early, {found.late / 1e6:,.0f} MB late\n"
        f"waiting         {found.waiting:8.1%} of the time, with steps {SLACK} times as long as "
        "reading their images"
    )


if __name__ == "__main__":
    main()
