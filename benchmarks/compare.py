"""What each analysis costs, in forward passes of the networks that it looks at.

Compares ResNet-18 with the paper's ViT, both before training as well (random images and labels,
the default settings), and prints CPU time over that of one forward pass of every network on all
images: of each analysis beyond the pass that all share, and of the shared pass with all analyses
that need no other. `--write` keeps the former in zoo/analyses/costs.json for `zoo analyses`.

    python -m benchmarks.compare [--images 359] [--size 16] [--repeats 3] [--write]
    python -m benchmarks.compare --networks narrow --size 32 --only stitching --write
    python -m benchmarks.compare --networks large --size 224 --images 16 --repeats 1
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import zoo.analyses
from benchmarks.cka import cpu_seconds
from zoo.analyses import choose_analyses, load_analysis
from zoo.capture.hook_points import HookPoint
from zoo.config import Settings
from zoo.models.build import build
from zoo.models.files import LoadedModel, describe_module
from zoo.study.accumulator import Accumulator, Batch, NotApplicable
from zoo.study.networks import Study
from zoo.study.one_pass import run_pass
from zoo.study.prepare import prepare_study

OWN_PASSES = (
    "receptive-field", "ablation", "grad-cam", "frequency", "robustness", "stitching",
)  # fmt: skip
CLASSES = [str(i) for i in range(10)]
COSTS = Path(zoo.analyses.__file__).parent / "costs.json"


class Timed(Accumulator):
    """Counts the CPU time of an analysis."""

    def __init__(self, inner: Accumulator) -> None:
        self.inner, self.observing, self.ending = inner, 0.0, 0.0

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        for point in self.inner.hook_points(index):
            yield replace(point, take=self._timed(point.take)) if point.take else point

    def _timed(self, take: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        """Count what a hook point takes; what several analyses want is counted in the first."""

        def timed(value: torch.Tensor) -> torch.Tensor:
            found: list[torch.Tensor] = []
            self.observing += cpu_seconds(lambda: found.append(take(value)))
            return found[0]

        return timed

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        self.inner.start = self.start
        self.observing += cpu_seconds(lambda: self.inner.observe(index, hook_point, value))

    def end_batch(self, batch: Batch) -> None:
        self.observing += cpu_seconds(lambda: self.inner.end_batch(batch))

    def result(self) -> Any:
        self.ending += cpu_seconds(self._finish)

    def _finish(self) -> None:
        try:
            self.inner.result()
        except NotApplicable as reason:
            raise SystemExit(f"an analysis does not apply: {reason}") from None


NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {"vit": {"patch_size": 4}, "resnet18": {}},
    "narrow": {
        "vit": {"patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3, "mlp_ratio": 2.0},
        "resnet18": {"channels": [10, 20, 40, 80]},
    },
    # timm's vit_small, for 224 px
    "large": {
        "vit": {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0},
        "resnet18": {},
    },
}


def models(known: dict[str, dict[str, Any]], size: int) -> list[LoadedModel]:
    found = []
    for arch, kwargs in known.items():
        torch.manual_seed(0)
        module = build(arch, classes=10, image_size=size, **kwargs).eval()
        found.append(
            describe_module(
                module, name=arch, image_size=size, arch=arch, kwargs=kwargs, class_names=CLASSES
            )
        )
    return found


def measure(make: Callable[[], Study], names: Sequence[str]) -> tuple[dict[str, float], float]:
    """Return each analysis' cost, and that of the shared pass, in forward passes."""
    study = make()
    forward = cpu_seconds(lambda: run_pass(study, []))
    spent: dict[str, float] = defaultdict(float)
    running: dict[str, Timed] = {}
    for name in names:

        def begin(name: str = name) -> None:
            running[name] = Timed(load_analysis(name).start(study))

        spent[name] += cpu_seconds(begin)
    shared = cpu_seconds(lambda: run_pass(study, list(running.values())))
    for name, timed in running.items():
        timed.result()
        spent[name] += timed.observing + timed.ending
        if name not in OWN_PASSES:
            shared += timed.ending
    return {name: seconds / forward for name, seconds in spent.items()}, shared / forward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=359)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="analyses, instead of all but the slow ones")
    parser.add_argument("--networks", choices=NETWORKS, default="paper")
    parser.add_argument("--write", action="store_true", help="keep the costs for zoo analyses")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)  # of NumPy and SciPy, whose idle threads spin
    random = np.random.default_rng(0)
    shape = (options.images, options.size, options.size, 3)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    labels = random.integers(0, 10, options.images)
    both = models(NETWORKS[options.networks], options.size)
    names = choose_analyses([name for name in options.only.split(",") if name])

    def make() -> Study:
        return prepare_study(both, images, labels, CLASSES, (), Settings(), "cpu")

    run_pass(make(), [])
    for name in names:
        load_analysis(name)  # importing is no cost of an analysis
    found = [measure(make, names) for _ in range(options.repeats)]
    setting = (
        f"{date.today()}, {platform.machine()}, torch {torch.__version__}, "
        f"{options.networks} ViT and ResNet-18 at {options.size} px and both untrained, "
        f"{options.images} images, {options.threads} thread(s), median of {options.repeats}"
    )
    costs = {
        name: float(f"{statistics.median(costs[name] for costs, _ in found):.3g}")
        for name in found[0][0]
    }
    print(setting)
    for name, cost in costs.items():
        print(f"  {cost:8.3g} x a forward pass: {name}")
    print(f"  {statistics.median(shared for _, shared in found):6.2f} x a forward pass: the shared "
          "pass itself, with all analyses that need no other")  # fmt: skip
    if options.write:
        kept = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {}
        kept |= {name: {"forward_passes": costs[name], "measured": setting} for name in costs}
        COSTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
