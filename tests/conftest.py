"""Small real things that many tests share."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# A shell's background job ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before torch starts its threads: small tensors are slower on several.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# MLflow keeps files open of every store, and nearly every test has a store of its own.
_, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(allowed, 65536), allowed))

TINY_VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
TINY_RESNET = {"channels": [8, 16, 24, 32]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    """Let a report that shows half a surrogate pair pass from process to process."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """Take back what `--verbose` sets for the whole process."""
    logger = logging.getLogger("zoo")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no test read or change which code the person who runs the tests trusts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits at 16 px: `small` (40 images), `full`, `validation`, `test`."""
    from zoo.data.build import build_subsets
    from zoo.data.sources import load_source

    folder = tmp_path_factory.mktemp("subsets")
    source = load_source("digits", folder)
    build_subsets(
        source, {"small": 40, "full": "all"}, folder, image_size=16, validation=0.1, seed=0
    )
    return folder


@pytest.fixture
def digit_files(tmp_path: Path) -> Path:
    """A folder of digits as image files: `train` and `test`, of 12 and 4 a class."""
    from PIL import Image

    from zoo.data.sources import load_source

    source = load_source("digits", tmp_path)
    for name, split, count in (("train", source.train, 12), ("test", source.test, 4)):
        for label in range(10):
            folder = tmp_path / "digits" / name / str(label)
            folder.mkdir(parents=True)
            for i in np.flatnonzero(split.labels == label)[:count]:
                Image.fromarray(split.read(int(i))).resize((20, 16)).save(folder / f"{i}.png")
    return tmp_path / "digits"


def cut_files(
    root: Path, folder: Path, source: Any = None, max_array_gb: float = float("inf")
) -> Path:
    """Cut `small` (40 images), `full`, `validation` and `test` of a folder of image files."""
    from zoo.data.build import build_subsets
    from zoo.data.sources import load_source

    build_subsets(
        source or load_source("imagefolder", root),
        {"small": 40, "full": "all"}, folder,
        image_size=16, validation=0.2, seed=0, root=str(root), max_array_gb=max_array_gb,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def digit_images(digits_folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Sixty test digits and their labels."""
    from zoo.data.subsets import load_subset

    test = load_subset(digits_folder / "test")
    return np.array(test.images[:60]), np.array(test.labels[:60])


@pytest.fixture(scope="session")
def make_model():
    """Make a small untrained model: `make_model(arch, name)`."""
    import torch

    from zoo.models.build import build, count_parameters
    from zoo.models.files import describe_module

    def make(arch: str = "vit", name: str = "", *, seed: int = 0, image_size: int = 16, **known):
        small = TINY_VIT if arch.startswith("vit") else {}
        small = TINY_RESNET if arch == "resnet18" else small
        torch.manual_seed(seed)
        module = build(arch, classes=10, image_size=image_size, **small)
        known = {
            "class_names": [str(i) for i in range(10)],
            "kwargs": small,
            "seed": seed,
            "parameters": count_parameters(module),
        } | known
        return describe_module(
            module, name=name or f"{arch}-{seed}", image_size=image_size, arch=arch, **known
        )

    return make
