"""zoo's training loop against a bare forward/backward/step loop on the same tensors.

Prints the speed of a step as a share of the bare loop's, the two taking turns. The bare loop has
autocast and the same optimizer, and nothing else: no augmentation, schedule, metrics, moving
average or checkpoints. With one thread the CPU's time is measured, which other processes do not
distort; otherwise the wall's.

    python -m benchmarks.train --model vit-128 --image-size 32 --recipe --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from zoo.config import ModelConfig, TrainConfig, load_params
from zoo.data.subsets import Subset, SubsetInfo
from zoo.models.build import build
from zoo.models.preprocess import preprocess
from zoo.models.spec import ModelSpec
from zoo.training.loop import train

BATCH = 50
RECIPE = {
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup_steps": 5,
    "crop_padding": 4,
    "flip": True,
    "augment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "ema": 0.999,
    "clip_norm": 1.0,
}


def subset(count: int, size: int) -> Subset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    names = [str(i) for i in range(10)]
    info = SubsetInfo("s", "random", names, size, count, [0.5] * 3, [0.3] * 3, "", 0, [])
    return Subset(images, random.integers(0, 10, count), info)


def bare_seconds(model: ModelConfig, data: Subset, config: TrainConfig, spec: ModelSpec) -> float:
    torch.manual_seed(0)
    network = build(model.arch, classes=10, image_size=data.info.image_size, **model.kwargs).train()
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(network.parameters(), lr=config.learning_rate, fused=True)
    images, labels = preprocess(data.images, spec), torch.from_numpy(data.labels)
    bf16 = config.precision == "bf16"
    began = clock(config)
    for start in range(0, len(images), BATCH):
        x, y = images[start : start + BATCH], labels[start : start + BATCH]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clock(config) - began


def zoo_seconds(model: ModelConfig, data: Subset, config: TrainConfig, spec: ModelSpec) -> float:
    """Time the steps alone: the epoch's validation is work that the bare loop does not do."""
    torch.manual_seed(0)
    network = build(model.arch, classes=10, image_size=data.info.image_size, **model.kwargs)
    times: list[float] = []
    tiny = Subset(data.images[:4], data.labels[:4], data.info)
    train(
        network,
        spec,
        data,
        tiny,
        config,
        steps=config.steps_on("s", len(data)),
        seed=0,
        on_progress=lambda *_: times.append(clock(config)),
    )
    # From the end of the first step to that of the last, over as many steps as the bare loop.
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


def clock(config: TrainConfig) -> float:
    return time.process_time() if config.threads == 1 else time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit", help="an entry under `models` of params.yaml")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="float32", choices=("bf16", "float32"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--recipe", action="store_true", help="with everything a recipe can have")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_params(Path(__file__).parents[1] / "params.yaml").models[options.model]
    data = subset(BATCH * options.steps, options.image_size)
    spec = ModelSpec(
        "m", model.arch, options.image_size, data.info.class_names, [0.5] * 3, [0.3] * 3
    )
    recipe = RECIPE if options.recipe else {"schedule": "constant"}
    config = TrainConfig(
        BATCH, 1e-4, epochs=1, precision=options.precision, threads=options.threads, **recipe
    )
    bare_seconds(model, data, config, spec)
    shares = []
    for _ in range(options.repeats):
        bare = bare_seconds(model, data, config, spec)
        shares.append(bare / zoo_seconds(model, data, config, spec))
    print(
        f"{date.today()}, torch {torch.__version__}, {options.threads} threads: {options.model} at "
        f"{options.image_size} px, {options.precision}, batch {BATCH}, {options.steps} steps, "
        f"{'full' if options.recipe else 'plain'} recipe: {statistics.median(shares):.3f} x the "
        f"bare loop's speed, median of {options.repeats} ({min(shares):.3f} to {max(shares):.3f})"
    )


if __name__ == "__main__":
    main()
