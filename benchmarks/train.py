"""zoo's training loop against a bare forward/backward/step loop on the same tensors.

Prints the ratio of the wall time a step, the two taking turns. The bare loop has autocast and
the same optimizer, and nothing else: no augmentation, schedule, metrics or checkpoints.

    python -m benchmarks.train [--arch vit] [--image-size 16] [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date

import numpy as np
import torch
from torch.nn import functional

from zoo.config import TrainConfig
from zoo.data.subsets import Subset, SubsetInfo
from zoo.models.build import build
from zoo.models.preprocess import preprocess
from zoo.models.spec import ModelSpec
from zoo.training.loop import train

BATCH = 50


def subset(count: int, size: int) -> Subset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    names = [str(i) for i in range(10)]
    info = SubsetInfo("s", "random", names, size, count, [0.5] * 3, [0.3] * 3, "", 0, [])
    return Subset(images, random.integers(0, 10, count), info)


def bare_seconds(arch: str, data: Subset, config: TrainConfig, spec: ModelSpec) -> float:
    torch.manual_seed(0)
    model = build(arch, classes=10, image_size=data.info.image_size).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    images, labels = preprocess(data.images, spec), torch.from_numpy(data.labels)
    bf16 = config.precision == "bf16"
    began = time.perf_counter()
    for start in range(0, len(images), BATCH):
        x, y = images[start : start + BATCH], labels[start : start + BATCH]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began


def zoo_seconds(arch: str, data: Subset, config: TrainConfig, spec: ModelSpec) -> float:
    """Time the steps alone: the epoch's validation is work that the bare loop does not do."""
    torch.manual_seed(0)
    model = build(arch, classes=10, image_size=data.info.image_size)
    times: list[float] = [time.perf_counter()]

    def on_progress(done: int, total: int, what: str) -> None:
        times.append(time.perf_counter())

    tiny = Subset(data.images[:4], data.labels[:4], data.info)
    train(
        model, spec, data, tiny, config, steps=len(data) // BATCH, seed=0, on_progress=on_progress
    )
    # From the end of the first step to that of the last, over as many steps as the bare loop.
    return (times[-1] - times[1]) * (len(times) - 1) / (len(times) - 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="vit")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "float32"))
    options = parser.parse_args()
    data = subset(BATCH * options.steps, options.image_size)
    spec = ModelSpec(
        "m", options.arch, options.image_size, data.info.class_names, [0.5] * 3, [0.3] * 3
    )
    config = TrainConfig(BATCH, 1e-4, epochs=1, schedule="constant", precision=options.precision)
    bare_seconds(options.arch, data, config, spec)
    ratios = []
    for _ in range(options.repeats):
        bare = bare_seconds(options.arch, data, config, spec)
        ratios.append(zoo_seconds(options.arch, data, config, spec) / bare)
    print(
        f"{date.today()}, torch {torch.__version__}, {torch.get_num_threads()} threads: "
        f"{options.arch} at {options.image_size} px, {options.precision}, batch {BATCH}, "
        f"{options.steps} steps: {statistics.median(ratios):.3f} x the bare loop, "
        f"median of {options.repeats} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
