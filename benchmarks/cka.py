"""All-pairs CKA against the forward passes alone, and against the fastest published tool.

Prints, for ResNet-18 and the paper's ViT at 32 px with 512 images in batches of 128:

- CPU time of zoo's comparison over that of the two forward passes, in one run, alternating;
- the same for pytorch-cka where it is installed (`uv pip install --no-deps pytorch-cka`);
- the largest error against a float64 reference, also with a mean 27 times the deviation;
- extra peak memory over model and one forward pass, for 512 and 10,000 images.

    python -m benchmarks.cka [--layers 20] [--repeats 5]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import torch

from zoo.analyses.engine import compare_models
from zoo.capture import select_layers, trace
from zoo.config import Settings
from zoo.measures.linear_cka import centred_gram, cka_from_hsic, pairwise_hsic
from zoo.models.build import build
from zoo.models.files import LoadedModel, describe_module
from zoo.models.preprocess import preprocess
from zoo.study.axes import select

BATCH = 128


def models(layers: int) -> tuple[list[LoadedModel], str]:
    torch.manual_seed(0)
    both = [
        describe_module(build(arch, classes=10, image_size=32).eval(), name=arch, image_size=32)
        for arch in ("resnet18", "vit")
    ]
    chosen = []
    for model in both:
        names = select_layers(trace(model.module, torch.zeros(1, 3, 32, 32)), "all")
        step = len(names) / layers
        chosen += [names[int(i * step)] for i in range(layers)]
    pattern = "^(" + "|".join(n.replace(".", r"\.") for n in dict.fromkeys(chosen)) + ")$"
    return both, pattern


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def forward(both: list[LoadedModel], images: np.ndarray) -> None:
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            for model in both:
                model.module(preprocess(images[start : start + BATCH], model.spec))


def compare(both: list[LoadedModel], images: np.ndarray, pattern: str) -> np.ndarray:
    settings = Settings(batch_size=BATCH, layers=pattern, references=False)
    found = compare_models(both, images, only=["cka"], settings=settings)
    values: np.ndarray = select(found.results["cka"].data["cka"], *(m.name for m in both)).values
    return values


def peer(both: list[LoadedModel], images: np.ndarray, pattern: str) -> Callable[[], None] | None:
    try:
        from cka import compute_cka
    except ImportError:
        return None
    first, second = (
        list(select_layers(trace(m.module, torch.zeros(1, 3, 32, 32)), pattern)) for m in both
    )
    batches = [
        (preprocess(images[i : i + BATCH], both[0].spec),) for i in range(0, len(images), BATCH)
    ]

    def run() -> None:
        with torch.inference_mode():
            compute_cka(
                both[0].module,
                both[1].module,
                batches,
                layers=first,
                model2_layers=second,
                progress=False,
            )

    return run


def cpu_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def error(ratio: float) -> float:
    """Largest difference from float64 over all pairs of six layers with a mean of `ratio`."""
    random = np.random.default_rng(1)
    base = random.normal(size=(BATCH, 512))
    layers = [
        (base @ random.normal(size=(512, 2048)) / 22 + ratio).astype(np.float32) for _ in range(6)
    ]
    values = {}
    for kind in (torch.float32, torch.float64):
        grams = [centred_gram(torch.tensor(x, dtype=kind)).values for x in layers]
        values[kind] = cka_from_hsic(pairwise_hsic(torch.stack(grams), BATCH).numpy())
    return float(np.abs(values[torch.float32] - values[torch.float64]).max())


def peak(count: int, layers: int, what: str) -> float:
    """Peak memory in MB of a process that does one thing with `count` images."""
    code = (
        "import resource; from benchmarks import cka as b;"
        f"both, pattern = b.models({layers}); images = b.pictures({count});"
        f"{'b.forward(both, images)' if what == 'forward' else 'b.compare(both, images, pattern)'};"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=20, help="layers of each model")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="also measure peak memory (slow)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    both, pattern = models(options.layers)
    images = pictures(options.images)
    forward(both, images)
    other = peer(both, images, pattern)
    ratios, swapped, peers = [], [], []
    for _ in range(options.repeats):
        base = cpu_seconds(lambda: forward(both, images))
        ratios.append(cpu_seconds(lambda: compare(both, images, pattern)) / base)
        swapped.append(cpu_seconds(lambda: compare(both[::-1], images, pattern)) / base)
        if other:
            peers.append(cpu_seconds(other) / base)
    machine = platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, torch {torch.__version__}")
    print(f"{options.layers} x {options.layers} layers, {options.images} images, batch {BATCH}, "
          f"{options.threads} thread(s), median of {options.repeats} (least to most)")  # fmt: skip
    for name, values in (("zoo", ratios), ("zoo, models swapped", swapped), ("pytorch-cka", peers)):
        if values:
            median, low, high = statistics.median(values), min(values), max(values)
            print(f"  {name}: {median:.2f} x the forward passes ({low:.2f} to {high:.2f})")
    for ratio in (0, 27, 91):
        print(f"  largest error at mean/deviation {ratio}: {error(ratio):.1e}")
    if options.memory:
        base = peak(options.images, options.layers, "forward")
        small = peak(options.images, options.layers, "compare")
        large = peak(10_000, options.layers, "compare") - (10_000 - options.images) * 3072 / 2**20
        print(f"  extra peak memory: {small - base:.0f} MB at {options.images} images; "
              f"{100 * (large / small - 1):+.1f} % of the peak at 10,000")  # fmt: skip


if __name__ == "__main__":
    main()
