"""The history of a training run: its rows, their points in MLflow, and their identity.

`epochs.csv` has one row per epoch, `steps.csv` one row per step. Logging while training and logging
afterwards turn the same rows into the same points.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UserError
from zoo.files import significant

if TYPE_CHECKING:
    from mlflow.entities import Dataset

EPOCHS, STEPS = "epochs.csv", "steps.csv"
# Positions are no metrics, and a learning rate is logged once, by step.
_NOT_LOGGED = {"epoch": ("epoch", "step", "learning_rate"), "step": ("step",)}

Row = dict[str, float]


@dataclass(frozen=True)
class Point:
    """One value of a metric; `step` counts epochs or optimizer steps, as the metric does.

    `model_id` names the logged model and `dataset` the data that it was measured on, if known.
    """

    key: str
    value: float
    step: int
    model_id: str | None = None
    dataset: Dataset | None = None


@dataclass(frozen=True)
class History:
    """What was measured while a model was trained, in order."""

    epochs: tuple[Row, ...] = ()
    steps: tuple[Row, ...] = ()

    @property
    def points(self) -> list[Point]:
        """Every value as a point."""
        return points(self.epochs, "epoch") + points(self.steps, "step")


def read_history(folder: Path) -> History:
    """Read a model folder's history, which may be empty."""
    return History(_read(folder / EPOCHS, "epoch"), _read(folder / STEPS, "step"))


def points(rows: Iterable[Row], position: str) -> list[Point]:
    """Return the values of rows as points; `position` is `epoch` or `step`."""
    return [
        Point(key, value, int(row[position]))
        for row in rows
        for key, value in row.items()
        if key not in _NOT_LOGGED[position]
    ]


def extend_digest(digest: str, row: Row) -> str:
    """Return the identity of the history that extends the one of `digest` by an epoch.

    It shows which run was logged while a model was trained: it covers every epoch's duration.
    """
    values = json.dumps([[key, significant(float(row[key]))] for key in sorted(row)])
    return hashlib.sha256(f"{digest}{values}".encode()).hexdigest()[:32]


def digests(rows: Iterable[Row]) -> list[str]:
    """Return the identity of each beginning of a history, the shortest first."""
    return list(itertools.accumulate(rows, extend_digest, initial=""))[1:]


def _read(path: Path, position: str) -> tuple[Row, ...]:
    if not path.is_file():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = tuple({k: float(v) for k, v in row.items()} for row in csv.DictReader(file))
        for row in rows:
            int(row[position])
    except (ValueError, OverflowError, TypeError, KeyError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}): expected a table of numbers "
            f"with a column {position!r}; train the model again"
        ) from None
    return rows
