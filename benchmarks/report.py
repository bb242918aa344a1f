"""How long a report takes after its analyses, how large its page is, and how soon it opens.

Compares the quick study's ViT and ResNet-18 (untrained, at 16 px) by every analysis on digits,
and prints

- seconds of `Comparison.save`: figures as png and svg, arrays, page (aim: at most 3);
- the page's size (aim: at most 10 MB);
- seconds until Chromium has drawn the page (aim: at most 1), where there is a Chromium.

    python -m benchmarks.report [--images 64] [--repeats 3] [--models vit-small resnet18-small]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

import zoo
from zoo.comparison import PAGE
from zoo.data.image_files import resize
from zoo.data.sources import load_source
from zoo.models.build import build
from zoo.models.files import LoadedModel

SIDE = 16
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def untrained() -> list[LoadedModel]:
    torch.manual_seed(0)
    modules = {
        "vit": build("vit", classes=10, image_size=SIDE, patch_size=4),
        "resnet18": build("resnet18", classes=10, image_size=SIDE),
    }
    return [zoo.wrap(module, name=name, image_size=SIDE) for name, module in modules.items()]


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    test = load_source("digits", Path()).test
    images = np.stack([resize(test.read(i), SIDE) for i in range(count)])
    return images, np.asarray(test.labels[:count])


def opening_seconds(page: Path, chromium: str, repeats: int) -> float:
    """Return the median time from the request to the first frame after the page has loaded."""
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(repeats):
            tab = browser.new_page()
            began = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load")
            tab.evaluate(DRAWN)
            times.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", help="registered models, instead of untrained ones")
    options = parser.parse_args()
    began = time.perf_counter()
    comparison = zoo.compare(options.models or untrained(), *digits(options.images))
    analysed = time.perf_counter() - began
    print(
        f"{date.today()}, torch {torch.__version__}, {torch.get_num_threads()} threads: "
        f"{len(comparison.results.results)} analyses of {options.images} images in {analysed:.1f} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report" / PAGE
        saving = []
        for _ in range(options.repeats):
            began, worked = time.perf_counter(), time.process_time()
            comparison.save(page.parent)
            saving.append((time.perf_counter() - began, time.process_time() - worked))
        figures = len(list(page.parent.glob("figures/*.svg")))
        for label, (seconds, cpu) in (("first", saving[0]), ("best", min(saving))):
            print(
                f"report after the analyses, {label}: {seconds:.2f} s, {cpu:.2f} s of CPU "
                f"({figures} figures as png and svg)"
            )
        print(f"page: {page.stat().st_size / 1e6:.2f} MB")
        if chromium := shutil.which("chromium"):
            seconds = opening_seconds(page, chromium, options.repeats)
            print(f"opens in Chromium: {seconds:.2f} s, median of {options.repeats}")
        else:
            print("opens in Chromium: not measured, there is none here")


if __name__ == "__main__":
    main()
