"""Who, where and from which commit: the tags that MLflow shows as a run's source."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

GIT_SECONDS = 10


def source_tags(root: Path, command: str) -> dict[str, str]:
    """Return the tags of a run that a command starts in a project."""
    tags = {"mlflow.user": _user(), "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    tags |= {key: os.environ[key] for key in ("DVC_STAGE", "DVC_EXP_NAME") if os.environ.get(key)}
    return tags | git_tags(root)


def git_tags(root: Path) -> dict[str, str]:
    """Return the commit of a folder and whether files differ from it; nothing outside git."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "mlflow.source.git.commit": commit,
        "zoo.git_dirty": "unknown" if changed is None else str(bool(changed)).lower(),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
