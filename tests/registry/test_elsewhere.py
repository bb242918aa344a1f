"""A registered model in another folder, and in an environment that has no zoo."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.models.files import load_model
from zoo.registry.flavor import SERVED
from zoo.registry.register import register

PACKAGE = Path(zoo.__file__).parent
BATCHES = (1, 7, 1000)
# Python runs it at its start, after it has read the environment's .pth files.
HIDE_ZOO = """
import pathlib, sys
here = [p for p in sys.path if (pathlib.Path(p or ".") / "zoo" / "__init__.py").is_file()]
sys.path[:] = [p for p in sys.path if p not in here]
"""
PREDICT = """
import importlib.util, sys
import mlflow, numpy as np
found = importlib.util.find_spec("zoo")
assert found is None or found.origin is None, found
model = mlflow.pyfunc.load_model(sys.argv[1])
images = np.load("images.npy")
np.savez("out.npz", **{str(n): model.predict(images[:n]) for n in (1, 7, 1000)})
"""


@pytest.fixture
def registered(store, make_folder, test_split):
    return register(store, make_folder(), test_folder=test_split)


@pytest.fixture
def elsewhere(tmp_path, store, registered, make_folder):
    """Another folder with images, an environment without zoo, and what zoo predicts there."""
    folder = tmp_path / "elsewhere"
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "sitecustomize.py").write_text(HIDE_ZOO)
    (folder / "zoo" / "models").mkdir(parents=True)  # a folder of that name is not the package
    images = np.random.default_rng(0).integers(0, 256, (1000, 16, 16, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "site"),
        "MLFLOW_TRACKING_URI": store.uri,
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    logits = load_model(make_folder())(images).double().softmax(1).numpy()
    return folder, environment, images, logits


def test_all_that_serving_imports_goes_along():
    copied = {path for pattern in SERVED for path in PACKAGE.glob(pattern)}
    needed, todo = set(), [PACKAGE / "registry" / "serving.py"]
    while todo:
        path = todo.pop()
        needed.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zoo"):
                for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names)):
                    stem = PACKAGE.parent.joinpath(*name.split("."))
                    found = (stem.with_suffix(".py"), stem / "__init__.py")
                    todo += [file for file in found if file.is_file() and file not in needed]
    assert needed <= copied


@pytest.mark.slow
def test_an_environment_without_zoo_predicts_what_zoo_does(elsewhere):
    folder, environment, _, expected = elsewhere
    subprocess.run(
        [sys.executable, "-c", PREDICT, "models:/vit-small/1"],
        cwd=folder, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    with np.load(folder / "out.npz") as out:
        for n in BATCHES:
            np.testing.assert_allclose(out[str(n)], expected[:n], atol=1e-5)


def test_an_installed_zoo_is_used_and_not_hidden_by_the_copy(store, registered, monkeypatch):
    import mlflow

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    model = mlflow.pyfunc.load_model("models:/vit-small/1")
    assert model.predict(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 3)
    assert not any("code/source" in path for path in sys.path)
    import zoo.comparison

    assert Path(zoo.comparison.__file__).parent == PACKAGE


def test_models_of_the_first_flavor_still_load(store, registered, make_folder):
    """They name `zoo.registry.serving` and bring no code."""
    import importlib

    loader = importlib.import_module("zoo.registry.serving")
    classifier = loader._load_pyfunc(str(make_folder()))
    assert classifier.predict(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 3)


@pytest.mark.slow
def test_mlflow_predicts_and_serves_it_from_another_folder(elsewhere):
    folder, environment, images, expected = elsewhere
    for n in BATCHES:
        body = json.dumps({"inputs": images[:n].tolist()})
        (folder / f"in{n}.json").write_text(body)
    mlflow = [sys.executable, "-m", "mlflow", "models"]
    model = ["-m", "models:/vit-small/1", "--env-manager", "local"]
    subprocess.run(
        [*mlflow, "predict", *model, "-i", "in7.json", "-t", "json", "-o", "out.json"],
        cwd=folder, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    predicted = json.loads((folder / "out.json").read_text())["predictions"]
    np.testing.assert_allclose(predicted, expected[:7], atol=1e-5)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [*mlflow, "serve", *model, "-h", "127.0.0.1", "-p", str(port), "-w", "1"],
        cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", server)
        for n in BATCHES:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                (folder / f"in{n}.json").read_bytes(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as answer:
                served = json.load(answer)["predictions"]
            np.testing.assert_allclose(served, expected[:n], atol=1e-5)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait_for(address: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server did not answer"
            time.sleep(0.5)
