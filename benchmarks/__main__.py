"""Every question of speed in one table of ratios, and in results.json.

A ratio is of CPU seconds of one thread, both sides in one run, so that it means something on a
busy machine too; a power is that of the growth between the smallest and the largest case. Where a
ratio is far off its limit, the exit status is 1.

    make bench
    python -m benchmarks --quick --only start-up,growth
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks import cka, compare, files, registry, train, zoo_map
from benchmarks.cka import cpu_seconds
from zoo.analyses import choose_analyses, load_analysis
from zoo.analyses.engine import compare_models, shares
from zoo.cli import COMMANDS
from zoo.config import Settings, TrainConfig, load_params
from zoo.models.build import build
from zoo.models.files import LoadedModel, describe_module
from zoo.models.spec import ModelSpec
from zoo.study.prepare import prepare_study

RESULTS = Path(__file__).with_name("results.json")
LIBRARIES = ("mlflow", "numpy", "scipy", "timm", "torch")
ZOO = (sys.executable, "-c", "from zoo.cli import main; main()")


@dataclass(frozen=True)
class Row:
    """A measured number: `unit` is x (a ratio), power or words that say why there is none."""

    question: str
    value: float | None
    unit: str
    n: int = 1
    most: float = math.inf  # far off beyond it


def ratio_of(question: str, values: Sequence[float], most: float = math.inf) -> Row:
    return Row(question, statistics.median(values), "x", len(values), most)


def similarity(quick: bool) -> Iterator[Row]:
    """All-pairs CKA against the forward passes alone, ours and a published tool's."""
    layers, count, repeats = (5, 16, 1) if quick else (20, 512, 3)
    both, pattern = cka.models(layers)
    images = cka.pictures(count)
    cka.forward(both, images)
    actions = {"CKA of all pairs of layers": lambda: cka.compare(both, images, pattern)}
    if other := cka.peer(both, images, pattern):
        actions["the same by pytorch-cka"] = other
    else:
        yield Row("the same by pytorch-cka", None, "not installed: skipped", 0)
    ratios: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        base = cpu_seconds(lambda: cka.forward(both, images))
        for name, act in actions.items():
            ratios[name].append(cpu_seconds(act) / base)
    for name, values in ratios.items():
        yield ratio_of(f"{name} / forward passes", values, 5)


def vits(count: int, depth: int) -> list[LoadedModel]:
    size = {"patch_size": 8, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2.0}
    torch.manual_seed(0)
    modules = [build("vit", classes=10, image_size=32, depth=depth, **size) for _ in range(count)]
    return [describe_module(m, name=f"v{i}", image_size=32) for i, m in enumerate(modules)]


def cka_seconds(models: int, depth: int, images: int) -> float:
    """CPU seconds of CKA of the blocks of ViTs, without their forward passes."""
    found, pictures = vits(models, depth), cka.pictures(images)
    settings = Settings(batch_size=128, layers=r"^blocks\.\d+$", references=False)
    cka.forward(found, pictures[:16])
    whole = cpu_seconds(
        lambda: compare_models(found, pictures, only=["cka"], settings=settings)
    )  # fmt: skip
    return whole - cpu_seconds(lambda: cka.forward(found, pictures))


def growth(quick: bool) -> Iterator[Row]:
    """With what power CKA grows; expected are 2 for layers and models, 1 for images."""
    cases = {
        "layers": [(2, depth, 256) for depth in ((2, 4) if quick else (5, 50, 200))],
        "images": [(2, 5, count) for count in ((32, 64) if quick else (512, 4096, 16384))],
        "models": [(count, 5, 64 if quick else 512) for count in ((2, 3) if quick else (2, 8, 32))],
    }
    for position, (what, of) in zip((1, 2, 0), cases.items(), strict=True):
        seconds = [cka_seconds(*case) for case in of]
        sizes = [case[position] for case in of]
        grown = math.log(max(seconds[-1], 1e-9) / max(seconds[0], 1e-9))
        yield Row(
            f"CKA from {sizes[0]:,} to {sizes[-1]:,} {what}",
            grown / math.log(sizes[-1] / sizes[0]), "power", len(of),
            math.inf if quick else 1.3 if what == "images" else 2.3,
        )  # fmt: skip


def comparison(quick: bool) -> Iterator[Row]:
    """All analyses against one forward pass, and what two processes would share of them."""
    names = choose_analyses(["accuracy", "cka"] if quick else ())
    count = 32 if quick else 359
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, count)
    both = compare.models(compare.NETWORKS["narrow"], 32)
    for name in names:
        load_analysis(name)
    costs, shared = compare.measure(
        lambda: prepare_study(both, images, labels, compare.CLASSES, (), Settings(), "cpu"), names
    )
    # What is observed in the common pass is shared evenly; the rest as the analyses are divided.
    alone = {name: costs[name] for name in compare.OWN_PASSES if name in costs}
    common = 1 + sum(costs.values()) - sum(alone.values())
    busier = max(sum(alone.get(name, 0) for name in part) for part in shares(names, 2))
    yield Row("all analyses / a forward pass", 1 + sum(costs.values()), "x")
    yield Row("the pass that analyses share / a forward pass", shared, "x")
    alike = (1 + sum(costs.values())) / (common / 2 + busier)
    yield Row("one process / two (by the costs)", alike, "x")


def training(quick: bool) -> Iterator[Row]:
    """A step of training against a bare loop's."""
    model = load_params(Path(__file__).parents[1] / "params.yaml").models["vit"]
    data = train.subset(train.BATCH * (2 if quick else 8), 16)
    spec = ModelSpec("m", model.arch, 16, data.info.class_names, [0.5] * 3, [0.3] * 3)
    config = TrainConfig(
        train.BATCH, 1e-4, epochs=1, precision="float32", threads=1, **train.RECIPE
    )  # fmt: skip
    train.bare_seconds(model, data, config, spec)
    yield ratio_of(
        "a training step with every recipe / a bare step",
        [
            train.zoo_seconds(model, data, config, spec)
            / train.bare_seconds(model, data, config, spec)
            for _ in range(1 if quick else 3)
        ],
        2,
    )


def reading(quick: bool) -> Iterator[Row]:
    """Training images out of files: the cost beyond decoding, memory, and waiting for them."""
    with tempfile.TemporaryDirectory() as folder:
        found = files.measure(Path(folder), files.QUICK if quick else files.USUAL)
    yield Row(
        "reading images by processes / decoding them", found.reading / found.decoder, "x", 1, 2
    )
    yield Row("cutting a subset of files / decoding them", found.cut / found.decoder, "x")
    yield Row("memory late in an epoch / early", found.late / found.early, "x", 1, 1.2)
    yield Row("share of time that slower steps wait", found.waiting, "x")


def start_up(quick: bool) -> Iterator[Row]:
    """Each command's help against importing click; a list and an unknown name against MLflow."""
    helps = [["--help"], *([command, "--help"] for command in (() if quick else COMMANDS))]
    answers = [["list"], ["show", "nobody"]]
    repeats = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder:

        def once(*command: str) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=folder, capture_output=True, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        once(*ZOO, "list")  # what is first asked for is compiled
        for package, asked in (("click", helps), ("mlflow", answers)):
            importing = (sys.executable, "-c", f"import {package}")
            base = statistics.median(once(*importing) for _ in range(repeats))
            for words in asked:
                values = [once(*ZOO, *words) / base for _ in range(repeats)]
                yield ratio_of(f"zoo {' '.join(words)} / importing {package}", values)


def storing(quick: bool) -> Iterator[Row]:
    """Registering and loading against MLflow's own flavor; the map of many models."""
    with tempfile.TemporaryDirectory() as folder:
        if not quick:
            times, _ = registry.against_mlflow(Path(folder), 3)
            for ours, theirs in registry.SAME:
                values = np.array(times[ours].cpu) / np.array(times[theirs].cpu)
                # MLflow unpickles in 0.02 s; loading here hashes all bytes and builds the network.
                most = 10 if ours == "load" else 2
                yield ratio_of(f"{ours} 45 MB / mlflow.pytorch.{theirs}", values.tolist(), most)
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # where mlflow.set_tracking_uri puts it
        sizes = (10, 20) if quick else (100, 1000)
        seconds = [zoo_map.measure(Path(folder), count)[0].cpu[0] for count in sizes]
    power = math.log(seconds[1] / seconds[0]) / math.log(sizes[1] / sizes[0])
    yield Row(f"zoo map from {sizes[0]} to {sizes[1]:,} models", power, "power", 2, 1.5)


QUESTIONS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "similarity": similarity,
    "growth": growth,
    "comparison": comparison,
    "training": training,
    "reading": reading,
    "start-up": start_up,
    "storing": storing,
}


def about() -> dict[str, object]:
    """Say where and when this was measured."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), model)
    return {
        "date": str(date.today()),
        "machine": f"{model}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that it runs")
    parser.add_argument("--only", default="", help=f"of {', '.join(QUESTIONS)}")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else [*QUESTIONS]
    if unknown := set(chosen) - {*QUESTIONS}:
        parser.error(f"unknown: {', '.join(unknown)}; valid: {', '.join(QUESTIONS)}")
    torch.set_num_threads(1)
    threadpool_limits(1)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    rows, known = [], about()
    print(f"{known['date']}, {known['machine']}, load {known['load']}")
    for name in chosen:
        for row in QUESTIONS[name](options.quick):
            rows.append(row)
            value = row.unit if row.value is None else f"{row.value:8.2f} {row.unit}"
            off = "  far off" if (row.value or 0) > row.most else ""
            print(f"{value}  {row.question} (n = {row.n}){off}", flush=True)
    kept = [
        dataclasses.asdict(row) | {"most": row.most if math.isfinite(row.most) else None}
        for row in rows
    ]
    options.out.write_text(json.dumps(known | {"quick": options.quick, "rows": kept}, indent=2))
    sys.exit(any((row.value or 0) > row.most for row in rows))


if __name__ == "__main__":
    main()
