"""The wheel holds all that zoo needs, and works away from this repository."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.conftest import TINY_VIT
from zoo import __version__
from zoo.cli import COMMANDS

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
COMPARE = """
import sys
from pathlib import Path
import numpy as np
from torch import nn
import zoo

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Conv2d(3, 3, width, padding="same") for _ in range(3)))
    def forward(self, x):
        return self.blocks(x).mean((2, 3))

images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
nets = [zoo.wrap(Net(width), name=f"net-{width}", image_size=8) for width in (1, 3)]
zoo.compare(nets, images, only=["cka"]).save("report")
assert Path(zoo.__file__).is_relative_to(sys.prefix), zoo.__file__
assert "mlflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel; it borrows other packages, but not the editable zoo."""
    folder = tmp_path_factory.mktemp("environment")
    uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    uv("pip", "install", "--quiet", "--no-deps", "--python", str(folder / "venv"), str(wheel))
    (own,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # A path in a .pth file is searched, but its own .pth files, such as zoo's, are not read.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin"


def uv(*arguments):
    subprocess.run([sys.executable, "-m", "uv", *arguments], check=True)


@pytest.fixture
def run(environment, tmp_path):
    """Run something of the new environment in an empty folder; give what it printed."""

    def run(name, *arguments):
        foreign = {"PYTHONPATH", "VIRTUAL_ENV", "MLFLOW_TRACKING_URI", "DVC_ROOT"}
        done = subprocess.run(
            [environment / name, *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={k: v for k, v in os.environ.items() if k not in foreign}
            | {"PATH": f"{environment}:{os.environ['PATH']}"},  # DVC's stages call `python`
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "zoo").rglob("*.*")}
    assert {name for name in files if not name.endswith(".pyc")} <= held
    assert "zoo/report/template.html.j2" in held
    assert all(name.startswith(("zoo/", "vision_zoo-")) for name in held)


def test_the_installed_command_runs_in_an_empty_folder(run, tmp_path):
    assert run("zoo", "--version").strip() == f"zoo, version {__version__}"
    printed = run("zoo", "--help")
    assert all(f"\n  {name} " in printed for name in COMMANDS)
    assert run("zoo", "claims").startswith("Z-accuracy: ")
    assert "only the installation was examined" in run("zoo", "doctor")
    assert list(tmp_path.iterdir()) == []


def test_the_installed_package_compares_two_networks_and_writes_their_report(run, tmp_path):
    run("python", "-c", COMPARE)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "net-1" in page
    assert "<style>" in page


def test_a_study_is_begun_and_run_from_the_wheel_alone(run, tmp_path):
    assert "dvc repro" in run("zoo", "init", ".", "--name", "tiny")
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    params["subsets"] = {"small": 40}
    params["models"] = {"vit": {"arch": "vit", "kwargs": TINY_VIT}}
    params["study"] |= {"models": ["vit"], "subsets": ["small"]}
    params["train"] |= {"epochs": 1, "threads": 1}
    params["compare"] |= {"pairs": []}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    run("python", "-m", "dvc", "repro", "register")
    listed = json.loads(run("zoo", "list", "--json"))
    assert [(row["name"], row["aliases"]) for row in listed] == [
        ("tiny.vit-small", ["best", "current"])
    ]

    # An upgrade that changes how reports look trains nothing.
    digest = tmp_path / "code" / "compare.sha256"
    assert len(digest.read_text().strip()) == 64
    again = run("python", "-m", "dvc", "repro", "--dry", "register")
    assert "Running stage 'train" not in again
