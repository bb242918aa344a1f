"""A study of one's own: a folder with params.yaml, dvc.yaml and pipelines/, under git and DVC.

Its files are this repository's own, which the wheel holds in `zoo/project/study_files`, with one
difference: in the repository DVC's `deps` are the package's modules, in a study digests of them,
which the stage `code` writes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from zoo.config import STUDY, Params, load_params
from zoo.config.limits import COMPARED_COUNT
from zoo.data.check import propose_subsets
from zoo.data.sources import check_source, load_source
from zoo.errors import UserError
from zoo.files import sha256
from zoo.measures.sampling import stratified_split

FILES = Path(__file__).parent / "study_files"
PACKAGE = Path(__file__).parent.parent
# In a wheel beside README.md; in a clone the repository's own.
SHIPPED = FILES if (FILES / "dvc.yaml").is_file() else PACKAGE.parent
CODE = "code"
ONLY_HERE = ("study.py",)  # runs the studies of this repository
MODULE = re.compile(r"^ +- zoo/\S+$")
RESULTS = re.compile(r"^# Results?\b.*\n(#   .*\n)*", re.MULTILINE)  # measured on the digits
STAGE = re.compile(r"^  (\w+):$")
HEAD = """\
# code -> subset, ancestors -> train -> register -> compare, effect -> summary (params.yaml)
# code/*.sha256 are digests of zoo's code: after an upgrade, `dvc repro` runs what it changes.
stages:
  code:
    desc: the code of the installed zoo that decides each stage's outputs (looked at in every run)
    cmd: python -m pipelines.code
    always_changed: true
    outs:
"""
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
BEGUN = ".zoo-init"  # stands in a folder until its study is complete
IMAGE_SIZE = 32  # pixels a side, the papers'
STEPS = 300  # of a training on one's own images: too few for a good ViT, enough for a first look


def new_study(folder: Path, *, name: str = "", source: str = "", root: Path | None = None) -> str:
    """Make a study: its files, a git repository where it lies in none, and DVC.

    Args:
        folder: absent, empty, or what a killed process left of this study, which is completed.
        name: which keeps its models apart on a shared server; the folder's by default.
        source: of images, one of `SOURCES`; the digits by default.
        root: where the images lie; subset sizes are then chosen to fit them.

    Returns:
        The name of the study.

    Raises:
        UserError: a folder that holds something, a bad name, or images that cannot be used.
    """
    name = name or folder.resolve().name
    if not STUDY.fullmatch(name):
        raise UserError(
            f"expected a study's name of at most 64 of A-Z, a-z, 0-9, _ -, got {name!r}; choose "
            "one by --name"
        )
    files = {"params.yaml": _params(name, source, root)} | pipeline_files()
    files["README.md"] = (FILES / "README.md").read_text("utf-8").replace("NAME", name)
    files[".gitignore"] = (FILES / "gitignore").read_text("utf-8")
    if folder.exists() and not (folder.is_dir() and _holds_only(folder, files)):
        raise UserError(f"{folder} is not empty: expected a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BEGUN).touch()
    for file, text in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(text.encode())
    load_params(folder / "params.yaml")
    _begin(folder)
    (folder / BEGUN).unlink()
    return name


def _holds_only(folder: Path, files: Mapping[str, str]) -> bool:
    """Say whether a folder is empty, or holds what a killed process had written of these files."""
    if not (folder / BEGUN).exists():
        return not any(folder.iterdir())
    written = [(text, folder / file) for file, text in files.items() if (folder / file).exists()]
    return all(
        path.is_file() and text.encode().startswith(path.read_bytes()) for text, path in written
    )


def pipeline_files() -> dict[str, str]:
    """Return the pipeline of a study of this zoo: its files, and what stands in them."""
    scripts = sorted((SHIPPED / "pipelines").glob("*.py"))
    return {"dvc.yaml": study_stages((SHIPPED / "dvc.yaml").read_text("utf-8"))} | {
        f"pipelines/{script.name}": script.read_text("utf-8")
        for script in scripts
        if script.name not in ONLY_HERE
    }


def shipped_params() -> Params:
    """Return the settings that a new study begins with."""
    return load_params(SHIPPED / "params.yaml")


def study_stages(text: str) -> str:
    """Return the repository's dvc.yaml as a study's: digests in place of the package's modules."""
    stage, kept, named = "", [], []
    for line in text[text.index("stages:\n") + len("stages:\n") :].splitlines():
        if found := STAGE.match(line):
            stage = found[1]
        if not MODULE.match(line):
            kept.append(line)
        elif stage not in named:
            named.append(stage)
            kept.append(f"      - {CODE}/{stage}.sha256")
    outs = [f"      - {CODE}/{stage}.sha256:\n          cache: false" for stage in named]
    return HEAD + "\n".join([*outs, "", *kept]) + "\n"


def code_digests() -> dict[str, str]:
    """Return, for each stage, a digest of the modules that decide its outputs."""
    stages = yaml.safe_load((SHIPPED / "dvc.yaml").read_text("utf-8"))["stages"]
    digests = {}
    for name, stage in stages.items():
        files: list[Path] = []
        for dep in (dep for dep in stage["deps"] if dep.startswith("zoo/")):
            path = PACKAGE.parent / dep
            files += [path] if path.is_file() else sorted(path.rglob("*"))
        chosen = [file for file in files if file.is_file() and "__pycache__" not in file.parts]
        if chosen:
            digests[name] = sha256(*chosen)
    return digests


def _params(name: str, source: str, root: Path | None) -> str:
    text = (SHIPPED / "params.yaml").read_text("utf-8")
    named = f"name: {name}"
    text = re.sub(
        r"# name: \w+ +# .*", f"{named:22} # begins the names of its models", text, count=1
    )
    if not source:
        return text
    check_source(source)
    text = _set(text, "source", source)
    if source != "digits":  # which have 8 pixels a side
        text = RESULTS.sub("", _set(text, "image_size", IMAGE_SIZE))
    if root is None:
        return text
    root = root.resolve()
    text = _set(text, "root", json.dumps(str(root), ensure_ascii=False))
    images = load_source(source, root)
    labels = images.train.labels
    pool, _ = stratified_split(labels, 0.1, 0, images.class_names)
    shipped = shipped_params()
    most = min(len(images.test.labels), shipped.compare.images)
    text = _set(text, "images", max(most, int(COMPARED_COUNT.low)))
    batch, epochs = shipped.train.batch_size, []
    for subset, size in propose_subsets(np.bincount(labels[pool])).items():
        text = _set(text, subset, size)
        steps = -(-(len(pool) if size == "all" else int(size)) // batch)  # in an epoch
        epochs.append(f"{subset}: {-(-STEPS // steps)}")
    return _set(text, "epochs", f"{{{', '.join(epochs)}}}")


def _set(text: str, key: str, value: object) -> str:
    """Give a key of params.yaml, at its first place, another value; its comment stays in line."""

    def line(found: re.Match[str]) -> str:
        room = len(found[2]) if found[2].endswith(" ") else 0
        return f"{found[1]}{value!s:{room}}" + " " * (0 < room <= len(str(value)))

    return re.sub(rf"(?m)^(  {key}: )((?:{{.*?}}|\S+) *)", line, text, count=1)


def _begin(folder: Path) -> None:
    """Begin git, unless the folder lies in a repository already, and DVC."""
    inside = _run(folder, "git", "rev-parse", "--is-inside-work-tree").returncode == 0
    begun = {} if inside else {"git init": _run(folder, "git", "init", "--quiet")}
    options = ["--quiet", "--force", *["--subdir"] * inside]  # half of a .dvc is made again
    begun["dvc init"] = _run(folder, sys.executable, "-m", "dvc", "init", *options)
    for name, done in begun.items():
        if done.returncode:
            raise UserError(f"{name} failed in {folder}: {' '.join(done.stderr.split())}")
    (folder / ".dvc" / "config").write_text(DVC_CONFIG)
    (folder / ".dvcignore").write_text("__pycache__/\n")


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed: a study is kept in a git repository") from None
