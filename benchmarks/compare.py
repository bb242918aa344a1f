"""All analyses of the shared pass together, and each alone, against the forward passes.

Prints CPU time of a comparison of ResNet-18 and the paper's ViT (32 px, random images, batches
of 128, the default layers) over that of the two forward passes, in one run, alternating.
Analyses that need gradients or passes of their own are left out.

    python -m benchmarks.compare [--images 512] [--repeats 3] [--each]
"""

from __future__ import annotations

import argparse
import platform
import statistics
from datetime import date

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.cka import BATCH, cpu_seconds, forward, models, pictures
from zoo.analyses import ANALYSES
from zoo.analyses.engine import compare_models
from zoo.config import Settings

OWN_PASSES = ("receptive-field", "ablation", "grad-cam")
IN_THE_PASS = tuple(name for name in ANALYSES if name not in OWN_PASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="also time each analysis alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)  # of NumPy and SciPy, whose idle threads spin
    both, _ = models(layers=1)
    images = pictures(options.images)
    labels = np.random.default_rng(0).integers(0, 10, options.images)
    settings = Settings(batch_size=BATCH, references=False)
    forward(both, images)
    compare_models(both, images[:BATCH], labels[:BATCH], only=IN_THE_PASS, settings=settings)
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}, "
          f"{options.images} images, {options.threads} thread(s), "
          f"median of {options.repeats} (least to most)")  # fmt: skip
    chosen = {"all": IN_THE_PASS} | ({n: (n,) for n in IN_THE_PASS} if options.each else {})
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(options.repeats):
        base = cpu_seconds(lambda: forward(both, images))
        for name, only in chosen.items():
            taken = cpu_seconds(
                lambda only=only: compare_models(both, images, labels, only=only, settings=settings)
            )
            ratios[name].append(taken / base)
    for name, found in ratios.items():
        label = f"all of {', '.join(IN_THE_PASS)}" if name == "all" else name
        print(f"  {statistics.median(found):.2f} x the forward passes "
              f"({min(found):.2f} to {max(found):.2f}): {label}")  # fmt: skip


if __name__ == "__main__":
    main()
