"""Where the pipeline keeps things, and how its scripts begin and end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.analyses import check_analyses
from zoo.config import Params, load_params
from zoo.errors import one_line_errors
from zoo.registry import configure_mlflow

configure_mlflow()  # here, since every stage imports this before MLflow

PARAMS = Path("params.yaml")
SUBSETS = Path("data/subsets")
ANCESTORS = Path("ancestors")
MODELS = Path("models")
TRAIN_METRICS = Path("metrics/train")
RECEIPT = Path("registered.json")
COMPARISONS = Path("comparisons")
EFFECT = Path("effect")
SUMMARY = Path("summary")


@contextmanager
def stage() -> Iterator[Params]:
    """Give a stage its params; end on bad input with one line and status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with one_line_errors():
        params = load_params(PARAMS)
        check_analyses(params.compare)
        yield params
