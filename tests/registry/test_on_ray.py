"""Fingerprints on a Ray of two workers, on this machine; skipped where Ray is not installed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.registry.fingerprints import as_model, chosen_versions, keep_all, named_images
from zoo.registry.on_ray import keep_all_on_ray
from zoo.registry.register import register

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(tmp_path):
    """The address of a head with two workers; it is ended afterwards."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    port = free_port()
    command = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus", "2",
        "--port", str(free_port()), "--ray-client-server-port", str(port),
        "--include-dashboard", "false", "--disable-usage-stats",
    ]  # fmt: skip
    with (tmp_path / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert head.poll() is None, (tmp_path / "ray.log").read_text()
        time.sleep(0.1)
    yield f"ray://127.0.0.1:{port}"
    head.terminate()
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)


@pytest.mark.slow
def test_each_model_is_made_once_by_a_task_and_is_what_this_process_would_make(
    cluster, store, make_folder, test_split
):
    for seed in (0, 1, 2):
        register(store, make_folder(seed))
    models = [as_model(row) for row in chosen_versions(store, "")]
    images = named_images(store, models, test_split, None)
    told = []
    options = {"address": cluster, "on_progress": lambda *done: told.append(done)}
    first = list(keep_all_on_ray(store, models, images, device="cpu", **options))
    assert [kept.made for kept in first] == [True] * 3
    assert told[-1] == (3, 3, "models")
    again = list(keep_all_on_ray(store, models, images, device="cpu", **options))
    assert [kept.made for kept in again] == [False] * 3
    theirs = [kept.path.read_bytes() for kept in first]
    shutil.rmtree(store.cache)
    ours = list(keep_all(store, models, images, device="cpu"))
    assert not any(kept.made for kept in ours)
    assert [kept.path.read_bytes() for kept in ours] == theirs
    (failed,) = keep_all_on_ray(store, models[:1], images, device="gpu", **options)
    assert "unknown device 'gpu'" in failed


def test_a_cluster_that_does_not_answer_is_told_in_a_line(store, monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "1")
    address = f"ray://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=r"no Ray cluster answers .* ray start --head") as raised:
        list(keep_all_on_ray(store, [], None, address=address, device="cpu"))
    assert "\n" not in str(raised.value)


def test_without_ray_its_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'vision-zoo\[ray\]'"):
        list(keep_all_on_ray(store, [], None, address="ray", device="cpu"))
