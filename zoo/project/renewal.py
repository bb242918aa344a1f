"""A study's pipeline after an upgrade of zoo: files of an older one are named, and renewed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zoo.errors import UserError
from zoo.files import write_text
from zoo.project.doctor import Check
from zoo.project.new_study import CODE, pipeline_files


def is_study(folder: Path) -> bool:
    """Say whether `zoo init` made a folder's pipeline; the repository's own has no stage `code`."""
    stages = folder / "dvc.yaml"
    return stages.is_file() and f"\n  {CODE}:\n" in stages.read_text("utf-8")


def outdated_files(folder: Path) -> list[str]:
    """Return the files of a study's pipeline that are not those of the installed zoo."""
    return [
        file
        for file, text in pipeline_files().items()
        if not (folder / file).is_file() or (folder / file).read_text("utf-8") != text
    ]


def renew_study(folder: Path) -> list[str]:
    """Write the installed zoo's pipeline into a study; return which files that changed.

    Raises:
        UserError: the folder is no study that `zoo init` made.
    """
    if not is_study(folder):
        raise UserError(f"{folder}: expected a study that `zoo init` made, to renew its pipeline")
    changed = outdated_files(folder)
    for file in changed:
        write_text(folder / file, pipeline_files()[file])
    return changed


def check_pipeline(root: Path) -> Iterator[Check]:
    """Say whether a study's pipeline is the installed zoo's."""
    if not is_study(root):
        return
    if changed := outdated_files(root):
        named = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
        found = f"{named}: changed here, or of an older zoo than the one installed"
        yield Check(
            "pipeline", "warning", found, "zoo init --renew . (git diff shows what it does)"
        )
    else:
        yield Check("pipeline", "ok", "dvc.yaml and pipelines/ are the installed zoo's")
