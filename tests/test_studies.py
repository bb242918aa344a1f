"""The studies of `studies/`: complete, honest about what was measured, and runnable."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from zoo.config import load_params
from zoo.models.build import build

ROOT = Path(__file__).parent.parent
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_complete_and_says_time_disk_and_result(study):
    params = load_params(study)
    for model in params.study.models:
        entry = params.models[model]
        build(entry.arch, classes=10, image_size=params.data.image_size, **entry.kwargs)
        assert params.train_config(model).steps_on(params.study.subsets[0], 500) > 0
    head = study.read_text().split("\ndata:")[0]
    assert f"make study NAME={study.stem}" in head
    comment = " ".join(head.replace("\n# ", " ").split())
    time, disk = re.search(r"Time: (.*?)[Dd]isk: (.*?) Result.*measured", comment).groups()
    assert re.search(r"not yet measured|\d (s|minutes|hours)", time)
    assert re.match(r"[\d.]+ GB", disk)


def test_the_default_study_is_the_shipped_params():
    default, study = (
        yaml.safe_load(path.read_text())
        for path in (ROOT / "params.yaml", ROOT / "studies" / "digits.yaml")
    )
    assert study == default


@pytest.fixture
def home(tmp_path):
    """A copy of the project with one study, of a single stage that says what code it sees."""
    home = tmp_path / "home"
    for part in ("zoo", "pipelines"):
        shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("params.yaml", "Makefile"):
        shutil.copyfile(ROOT / part, home / part)
    seen = {"cmd": "python -c 'import sys, zoo; print(sys.executable, zoo.__file__)'",
            "deps": ["zoo/cli"], "params": ["train"]}  # fmt: skip
    (home / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"seen": seen}}))
    (home / "studies").mkdir()
    shutil.copyfile(ROOT / "studies" / "digits.yaml", home / "studies" / "tiny.yaml")
    # This environment, which `make` is not to set up again: it is newer than what it is made of.
    (home / ".venv").symlink_to(ROOT / ".venv")
    for name in ("requirements.lock", "pyproject.toml"):
        (home / name).touch()
        os.utime(home / name, (0, 0))
    return home


def make_study(home, *arguments):
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "MAKE"))
    }
    return subprocess.run(
        ["make", "study", *arguments], cwd=home, env=inherited, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "dvc").exists(), reason="no .venv here")
def test_a_study_runs_in_a_folder_of_its_own_and_continues(home):
    before = (home / "params.yaml").read_bytes()
    done = make_study(home, "NAME=tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = home / "studies" / "runs" / "tiny"
    assert f"{home / '.venv' / 'bin' / 'python'} {folder / 'zoo' / '__init__.py'}" in done.stdout
    assert (folder / "params.yaml").read_bytes() == (home / "studies" / "tiny.yaml").read_bytes()
    assert not any((home / name).exists() for name in ("data", "dvc.lock"))
    assert (home / "params.yaml").read_bytes() == before
    again = make_study(home, "NAME=tiny")
    assert "Stage 'seen' didn't change, skipping" in again.stdout, again.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "dvc").exists(), reason="no .venv here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NAME=tny"], "Error: unknown study 'tny'; did you mean 'tiny'?"),
        (["NAME=tiny", "ROOT=/nowhere"], "Error: ROOT: expected a folder of images, found none at"),
    ],
)
def test_a_study_that_cannot_begin_says_so(home, arguments, message):
    done = make_study(home, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
