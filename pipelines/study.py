"""Run one of `studies/` in a folder of its own, `studies/runs/NAME`; the default stays as it is.

    make study NAME=cifar10-small ROOT=/path/to/images

The folder is a DVC project beside this one: its params.yaml is the study, the code is linked. The
same command continues a study that was stopped, and several processes share one with `gap`.
"""

import os
import subprocess
import sys
from pathlib import Path

from zoo.config import load_params
from zoo.errors import UserError, one_line_errors, unknown
from zoo.files import read_text, write_text

HOME = Path(__file__).parent.parent
STUDIES = HOME / "studies"
LINKED = ("pipelines", "zoo", "dvc.yaml")
DVC = str(Path(sys.executable).with_name("dvc"))


def prepare(name: str, images: str) -> Path:
    """Make or refresh a study's folder; `images` is where its `data/raw` leads, or ""."""
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    if name not in known:
        raise unknown("study", name, known)
    if images and not Path(images).is_dir():
        raise UserError(f"ROOT: expected a folder of images, found none at {images}")
    folder = STUDIES / "runs" / name
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write_text(folder / "params.yaml", read_text(STUDIES / f"{name}.yaml"))
    for link in LINKED:
        _link(folder / link, HOME / link)
    if images:
        _link(folder / "data" / "raw", Path(images).resolve())
    if not (folder / ".dvc").exists():
        subprocess.run([DVC, "init", "--no-scm", "--quiet"], cwd=folder, check=True)
    return folder


def _link(link: Path, target: Path) -> None:
    # One that is right stays: another process of the study may be reading by it.
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    if not os.path.lexists(link):
        link.symlink_to(target)


if __name__ == "__main__":
    name, images, *_ = [*sys.argv[1:], "", ""]
    with one_line_errors():
        folder = prepare(name, images)
        gap = load_params(folder / "params.yaml").gap
    command = [sys.executable, "-m", "pipelines.gap"] if gap else [DVC, "repro"]
    # The stages call `python`: let it be this one, in the study's folder.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder)}
    sys.exit(subprocess.run(command, cwd=folder, env=environment, check=False).returncode)
