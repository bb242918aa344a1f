"""Accuracy of models by datasets, with the seeds of each averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.registry.listing import VersionRow

if TYPE_CHECKING:
    import pandas as pd


def accuracy_table(rows: Iterable[VersionRow]) -> pd.DataFrame:
    """Return the test accuracy of every model on every dataset that it was trained on.

    The latest version of each model and seed counts; experiments and versions without an accuracy
    do not.

    Returns:
        A row per `model` (a registered name without its subset) and `dataset` (source and subset,
        in the order of their first versions), with `accuracy`, the mean over seeds (0..1),
        `deviation`, the standard deviation over seeds (NaN for a single one), and `seeds`.
    """
    import pandas as pd

    counted = [row for row in rows if row.test_accuracy is not None and not row.experiment]
    latest = {(row.name, row.seed): row for row in counted}
    ordered = sorted(counted, key=lambda row: row.created)
    datasets = list(dict.fromkeys(_dataset(row) for row in ordered))
    columns = ["model", "dataset", "accuracy"]
    values = [
        (row.name.removesuffix(f"-{row.subset}"), _dataset(row), row.test_accuracy)
        for row in latest.values()
    ]
    table = pd.DataFrame(values, columns=columns)
    table["dataset"] = pd.Categorical(table["dataset"], datasets, ordered=True)
    grouped = table.groupby(["model", "dataset"], observed=True, sort=True)["accuracy"]
    return grouped.agg(accuracy="mean", deviation="std", seeds="count").reset_index()


def written(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table for printing: models by datasets, in percent, ± over seeds."""
    cells = [
        f"{100 * row.accuracy:.1f}" + (f" ± {100 * row.deviation:.1f}" if row.seeds > 1 else "")
        for row in table.itertuples()
    ]
    wide = table.assign(cell=cells).pivot(index="model", columns="dataset", values="cell")
    wide.columns = wide.columns.astype(str)  # in order: they were categories
    return wide.fillna("")


def _dataset(row: VersionRow) -> str:
    return f"{row.source} {row.subset}".strip()
