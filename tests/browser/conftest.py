"""A small real project, its pages served by `zoo ui`, and a browser to open them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conftest import TINY_RESNET, TINY_VIT
from tests.warm import run

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = Path("/usr/bin/chromium")
MODELS = ("vit-small", "resnet18-small")
ANALYSES = "accuracy,cka,attention-maps,attention-distance,feature-maps"
PATIENCE = 120  # seconds; a server on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True)
class Project:
    """A folder with two trained, registered and compared variants, and the links printed of it."""

    root: Path
    links: dict[str, str]
    version_links: tuple[str, ...]


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Where Chromium is; without one, tests are skipped, and in CI they fail."""
    if not CHROMIUM.exists():
        reason = f"no {CHROMIUM}: install Debian's chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """No server, no colour, and one thread, whatever the shell says."""
    ours = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
    return ours | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def base() -> str:
    """An address on this machine that nobody listens at."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="session")
def project(
    chromium: Path,
    digits_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    base: str,
) -> Project:
    """Train a tiny ViT and a narrow ResNet-18 for two epochs, register and compare them."""
    from zoo.config import ModelConfig, Variant, load_params
    from zoo.registry.resolve import resolve
    from zoo.registry.store import open_store
    from zoo.registry.tracking import TrackingCallback
    from zoo.registry.ui import version_link
    from zoo.training.variants import train_variant

    root = tmp_path_factory.mktemp("project")
    known = load_params(ROOT / "params.yaml")
    params = replace(
        known,
        models={
            "vit": ModelConfig("vit", TINY_VIT),
            "resnet18": ModelConfig("resnet18", TINY_RESNET),
        },
        train=replace(known.train, epochs=2, threads=1),
        compare=replace(known.compare, pairs=[]),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        for model in ("vit", "resnet18"):
            variant = Variant(model, "small", 0)
            train_variant(
                params,
                variant,
                subsets=digits_folder,
                folder=root / "models" / variant.key,
                checkpoints=root / "checkpoints",
                callbacks=lambda inputs, settings, key=variant.key: [
                    TrackingCallback(key, inputs, settings, root=root)
                ],
            )
        folders = [str(folder) for folder in sorted((root / "models").iterdir())]
        run(root, "zoo", "register", *folders, "--test", str(digits_folder / "test"))
        printed = run(
            root, "zoo", "compare", *MODELS, "--only", ANALYSES,
            "--images", "40", "--batch-size", "20", "--no-references",
        ).stdout  # fmt: skip
        port = base.rpartition(":")[2]
        printed += run(root, "zoo", "ui", "--port", port, "--no-serve").stdout
        store = open_store(root)
        versions = tuple(version_link(store, resolve(store, m), base=base) for m in MODELS)
    found = re.findall(r"^(\w[\w ]*\w) +(http\S+)$", printed, flags=re.MULTILINE)
    links = {name: re.sub(r"http://[^/]+", base, link) for name, link in found}
    return Project(root, links, versions)


@pytest.fixture(scope="session")
def server(project: Project, environment: dict[str, str], base: str) -> Iterator[str]:
    """`zoo ui` on a port of its own, until the tests end."""
    with (project.root / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from zoo.cli import main; main()", "ui",
             "--port", base.rpartition(":")[2]],
            cwd=project.root, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            wait_for(base, process)
            yield base
        finally:
            process.terminate()
            assert process.wait(60) == 0


def wait_for(base: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "zoo ui ended by itself"
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no answer at {base} in {PATIENCE} s")


@pytest.fixture(scope="session")
def browser(chromium: Path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(PATIENCE * 1000)
    opened = context.new_page()
    yield opened
    context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept: `ZOO_SCREENSHOTS`, or a temporary folder."""
    folder = Path(os.environ.get("ZOO_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@pytest.fixture
def picture(page, screenshots: Path) -> Callable[..., None]:
    """Keep a picture of what the page shows now."""

    def keep(name: str, **options: bool) -> None:
        page.screenshot(path=screenshots / f"{name}.png", **options)

    return keep
