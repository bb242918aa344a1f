"""Ctrl-C: status 130, one line, and the same command run again finishes the job."""

import csv
import gc
import itertools
import json
import shutil
import signal
import socket
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
import yaml
from safetensors import safe_open

from tests.conftest import TINY_VIT
from tests.warm import run
from zoo.files import significant

ROOT = Path(__file__).parent.parent.parent
# A tiny network would end before the signal arrives.
SLOWED = (
    "import time, torch; forward = torch.nn.Linear.forward; "
    "torch.nn.Linear.forward = lambda s, x: time.sleep(0.003) or forward(s, x); "
)
# Progress lines come at once, so that a test knows when work is under way.
SOON = "import zoo.cli.progress as p; p.PLAIN_SECONDS = 0.05; "
ZOO = SOON + "from zoo.cli import main; main()"
TRAIN = SOON + (
    "import runpy; from zoo.training import loop; "
    "loop.train.__kwdefaults__['checkpoint_seconds'] = 0.0; "
    "runpy.run_module('pipelines.train', run_name='__main__')"
)

pytestmark = pytest.mark.slow


def interrupt(process, until: str) -> None:
    """Send SIGINT once a line with a text was written to stderr, and check how it ends."""
    for line in process.stderr:
        if until in line:
            break
    else:
        pytest.fail(f"{until!r} was not seen; status {process.wait()}")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    told = (" left", "so far", "WARNING: vit-small-0 is trained without live logging")
    lines = [line for line in error.splitlines() if not any(text in line for text in told)]
    assert process.returncode == 130, error
    assert lines == ["Error: interrupted; run the same command again to continue"]


@pytest.mark.parametrize(
    ("when", "status", "said"),
    [
        ("import zoo.registry as r; r.configure_mlflow = stop; ", 130, True),  # before the command
        ("import atexit; atexit.register(stop); ", 0, False),  # when all is printed
    ],
)
def test_ctrl_c_before_and_after_the_command_itself(start, when, status, said):
    stop = "import os, signal; stop = lambda: os.kill(os.getpid(), signal.SIGINT); "
    process = start("-c", stop + when + "from zoo.cli import main; main()", "claims", "R-reach")
    printed, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert error == "Error: interrupted; run the same command again to continue\n" * said
    assert printed.startswith("R-reach: ") is not said


def test_a_program_that_calls_main_goes_on_as_it_was_and_can_be_interrupted(zoo):
    before = gc.get_threshold(), sys.stdin, sys.stdout, sys.stderr
    zoo("claims", "R-reach")
    assert (gc.get_threshold(), sys.stdin, sys.stdout, sys.stderr) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_zoo_compare_ends_cleanly_and_goes_on(registered, start):
    asked = ["compare", "vit-small", "vit-gap-small", "--only", "accuracy", "--batch-size", "8"]
    interrupt(start("-c" + ZOO, *asked), "of 359 images")
    assert not (registered / "reports").exists()
    again = run(registered, "zoo", *asked, "--quiet")
    assert again.stderr == ""
    assert Path(again.stdout.strip()).is_file()


def test_zoo_probe_ends_cleanly_and_goes_on(project, save, start, digits_folder):
    save("vit-small")
    asked = ["probe", "models/vit-small", "--data-root", str(digits_folder), "--train", "full"]
    interrupt(start("-c" + ZOO, *asked, "--batch-size", "8"), "images, about")
    assert not (project / "reports").exists()
    again = run(project, "zoo", *asked, "--quiet")
    assert again.stderr == ""
    assert Path(again.stdout.strip()).is_file()


def test_training_ends_cleanly_and_continues(project, start, digits_folder):
    (project / "data").mkdir()
    shutil.copytree(digits_folder, project / "data" / "subsets")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"]["vit"]["kwargs"] = TINY_VIT
    params["train"] |= {"epochs": 60, "threads": 1, "precision": "float32"}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    variant = ("vit", "small", "0")
    interrupt(start("-c" + TRAIN, *variant, **away), "steps, about")
    assert not (project / "models").exists()
    (checkpoint,) = (project / ".zoo" / "checkpoints").glob("*/checkpoint.safetensors")
    with safe_open(checkpoint, framework="np") as file:
        before = json.loads(file.metadata()["progress"])["epochs"]
    assert 0 < len(before) < 60
    run(project, "python", "-m", "pipelines.train", *variant, **away)
    with (project / "models" / "vit-small-0" / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    # The epochs of the first process were not trained again: they took what they took then.
    for row, old in zip(rows, before, strict=False):
        assert float(row["seconds"]) == significant(old["seconds"])
    assert not checkpoint.exists()


def test_zoo_ui_says_when_it_is_ready_and_ends_cleanly(registered, start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    process = start("-c", ZOO, "ui", "--port", port)
    printed = list(itertools.takewhile(lambda line: "ready" not in line, process.stdout))
    assert len(printed) == 5, "four links, and that the server starts"
    with urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
        assert answer.status == 200
    parts = psutil.Process(process.pid).children(recursive=True)
    assert len(parts) == 2, "MLflow's command and its server"
    process.send_signal(signal.SIGINT)  # tests/browser/ ends it with SIGTERM
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.1:{port}/health", timeout=60)
