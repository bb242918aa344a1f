"""Two processes train what one trains: the same curve, the same files, and on after a kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from tests.conftest import TINY_RESNET, TINY_VIT
from tests.warm import run
from zoo.config import TrainConfig
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.spec import ModelSpec
from zoo.processes import joined, process_count, process_index, summed
from zoo.training.checkpoint import CHECKPOINT
from zoo.training.loop import train
from zoo.training.parallel import SyncBatchNorm

ROOT = Path(__file__).parents[2]
TOGETHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# No augmentation and no dropout, which each process draws for itself. Of 40 images, batches of 15
# give one process an image more than the other, and the last batch is short.
# SGD: Adam makes a step of whole size of a gradient that is rounding alone.
CONFIG = TrainConfig(
    epochs=4, batch_size=15, learning_rate=0.003, optimizer="sgd", clip_norm=1.0, ema=0.9,
    crop_padding=0, precision="float32",
)  # fmt: skip
STILL = {"pos_drop_rate": 0.0, "proj_drop_rate": 0.0, "attn_drop_rate": 0.0}
NETWORKS = {"vit": TINY_VIT | STILL, "resnet18": TINY_RESNET}
# Of a loss or an accuracy in the first epoch, and in any. Training enlarges what rounding differs:
# two threads differ from one, in one process, by 1.4e-3 as well.
FIRST, ANY = 1e-5, 3e-3


def trained(arch, subsets, config=CONFIG):
    small, validation = (load_subset(Path(subsets) / n) for n in ("small", "validation"))
    torch.manual_seed(0)
    module = build(arch, classes=10, image_size=16, **NETWORKS[arch])
    spec = ModelSpec(arch, arch, 16, small.info.class_names, small.info.mean, small.info.std)
    steps = config.steps_on("small", len(small))
    return train(module, spec, small, validation, config, steps=steps, seed=0)


def curve(epochs):
    return [[row[key] for key in sorted(row) if key != "seconds"] for row in epochs]


PROGRAM = """
import json, sys
from pathlib import Path
from zoo.processes import joined, process_index
from tests.training.test_parallel import NETWORKS, curve, trained
with joined():
    for arch in NETWORKS:
        found = trained(arch, sys.argv[1])
        norms = {k: v.tolist() for k, v in found.module.state_dict().items() if "running" in k}
        kept = {"curve": curve(found.epochs), "norms": norms, "environment": found.environment}
        Path(sys.argv[2], f"{arch}-{process_index()}.json").write_text(json.dumps(kept))
"""


def environment(**more):
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


@pytest.mark.slow
def test_two_processes_reach_the_curve_of_one(digits_folder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, *TOGETHER, str(program), str(digits_folder), str(tmp_path)]
    subprocess.run(command, check=True, env=environment(), timeout=300)
    for arch in NETWORKS:
        alone = trained(arch, digits_folder)
        first, second = (json.loads((tmp_path / f"{arch}-{r}.json").read_text()) for r in range(2))
        assert first == second, arch
        assert first["environment"]["processes"] == "2"
        assert "processes" not in alone.environment
        differ = np.abs(np.array(first["curve"]) - np.array(curve(alone.epochs)))
        assert differ[0].max() < FIRST
        assert differ.max() < ANY
        for name, values in first["norms"].items():
            own = alone.module.state_dict()[name].numpy()
            np.testing.assert_allclose(values, own, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.fixture
def alone_in_a_group(tmp_path):
    """A process group of one, by which collective operations run."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("affine", [True, False])
def test_synchronised_batch_norm_is_batch_norm(alone_in_a_group, affine):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 4, 4, generator=random) * 2 + 5
    found = []
    for mode in (SyncBatchNorm(), nullcontext()):
        torch.manual_seed(0)
        norm, own = torch.nn.BatchNorm2d(3, affine=affine), x.clone().requires_grad_()
        with mode:
            given = norm(own)
            given.pow(3).sum().backward()
            kept = norm.running_mean.clone(), norm.running_var.clone()
            watched = norm.eval()(x)  # by what was kept: nothing is synchronised
        found.append([given, own.grad, *kept, watched])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


def test_a_batch_has_an_image_for_every_process(digits_folder, monkeypatch):
    monkeypatch.setattr("zoo.training.loop.process_count", lambda: 2)
    with pytest.raises(UserError, match="for each of 2 processes, got a batch of 1: change train"):
        trained("vit", digits_folder, replace(CONFIG, batch_size=39))


def test_batch_norm_is_not_compiled_for_several_processes(digits_folder, monkeypatch):
    """It would normalise over the images of one process."""
    monkeypatch.setattr("zoo.training.parallel.process_count", lambda: 2)
    with pytest.raises(UserError, match=r"train\.compile: expected one process .*batch norm.* 2"):
        trained("resnet18", digits_folder, replace(CONFIG, compile=True))


def test_processes_that_do_not_find_each_other_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match=r"do not find each other .*RANK.*torchrun"), joined():
        pass


def test_one_process_needs_no_others():
    with joined():
        assert (process_count(), process_index(), summed([0.1, 2])) == (1, 0, [0.1, 2])


@pytest.fixture
def study(digits_folder, tmp_path):
    shutil.copytree(digits_folder, tmp_path / "data" / "subsets")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"]["vit"]["kwargs"] = TINY_VIT
    params["train"] |= {"epochs": 100, "threads": 1, "precision": "float32"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


SAVING = (
    "import runpy; from zoo.training import loop; "
    "loop.train.__kwdefaults__['checkpoint_seconds'] = 0.0; "
    "runpy.run_module('pipelines.train', run_name='__main__')"
)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job_which_then_continues(study):
    (study / "saving.py").write_text(SAVING)
    command = [sys.executable, *TOGETHER, "saving.py", "vit", "small", "0"]
    job = subprocess.Popen(
        command, cwd=study, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(study.rglob(CHECKPOINT)) and time.monotonic() < deadline:
        time.sleep(0.1)
    (second,) = [
        child for child in psutil.Process(job.pid).children() if child.environ().get("RANK") == "1"
    ]
    second.send_signal(signal.SIGKILL)
    _, told = job.communicate(timeout=120)
    assert job.returncode != 0
    # torchrun may end the first before it notices; the one traceback is torchrun's own.
    ours = [line for line in told.splitlines() if line.startswith("Error")]
    assert ours in (
        [],
        ["Error: another process of this job ended; run the same command again to continue"],
    )
    assert told.count("Traceback") == told.count("ChildFailedError:") == 1
    assert not (study / "models").exists()
    done = run(study, "python", "-m", "pipelines.train", "vit", "small", "0", processes=2)
    assert re.fullmatch(r"vit-small-0: test accuracy 0\.\d{3}\n", done.stdout)
