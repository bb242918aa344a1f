"""Which models an experiment of DVC trained, noted in the project: no server is needed."""

from __future__ import annotations

from pathlib import Path

from zoo.files import read_text, write_text

NOTES = Path(".zoo", "experiments")


def note_experiment(root: Path, digest: str, experiment: str) -> None:
    """Note which experiment trained a model; an empty name means the study itself."""
    path = root / NOTES / digest
    if experiment:
        write_text(path, experiment)
    else:
        path.unlink(missing_ok=True)


def noted_experiment(root: Path, digest: str) -> str:
    """Return the name of the experiment that trained a model; empty for the study itself."""
    path = root / NOTES / digest
    return read_text(path) if path.exists() else ""
