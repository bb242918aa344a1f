"""Where the pipeline keeps things, and how its scripts begin and end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.analyses import choose_analyses
from zoo.config import CompareConfig, Params, load_params
from zoo.errors import UserError, one_line_errors

PARAMS = Path("params.yaml")
SUBSETS = Path("data/subsets")
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


def check_analyses(config: CompareConfig) -> None:
    """Raise `UserError` on a choice of analyses that the last stages could not run."""
    try:
        chosen = choose_analyses(config.only, config.skip)
    except UserError as error:
        raise UserError(f"{PARAMS}: compare: {error}") from None
    if not chosen:
        raise UserError(f"{PARAMS}: compare: no analysis is left; `skip` names all of `only`")
