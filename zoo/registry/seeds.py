"""The same recipe trained with another seed: the seed baseline of a comparison."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from zoo.errors import UserError
from zoo.models.spec import SPEC, read_spec
from zoo.registry.faults import is_unreachable
from zoo.registry.lookup import DIGEST, EXPERIMENT, all_versions
from zoo.registry.references import Resolved
from zoo.registry.resolve import fetch_model, find_by_digest
from zoo.registry.runs import quoted
from zoo.registry.store import Store

logger = logging.getLogger(__name__)


def other_seeds(store: Store, models: Sequence[Resolved]) -> list[tuple[int, Resolved]]:
    """Find, for each model, one version of the same recipe that was trained with another seed.

    The recipe is the subset, the network and the training settings: all but the seed. Its
    similarity to the model is the baseline against which a cross-model value is read. An experiment
    is no seed of the study's models, nor of another experiment's. A version whose files are lost
    or damaged is passed over with a warning: nobody asked for it.

    Raises:
        UserError: one of `models` itself is damaged, or MLflow does not answer.
    """
    compared = {model.digest for model in models}
    found = []
    for i, model in enumerate(models):
        if model.version is None:
            continue
        with store.translate_mlflow_errors():
            versions = all_versions(store, f"name={quoted(model.name)}")
        others = [v for v in versions if _is_other_seed(v, model, compared)]
        recipe = _recipe(store, model) if others else ()
        for version in others:
            sibling = _sibling(store, version, recipe)
            if sibling is not None:
                found.append((i, sibling))
                break
    return found


def _is_other_seed(version: ModelVersion, model: Resolved, compared: set[str]) -> bool:
    tags = version.tags
    same = tags.get("zoo.subset_digest") == model.tags.get("zoo.subset_digest")
    other = tags.get("zoo.seed") != model.tags.get("zoo.seed")
    together = tags.get(EXPERIMENT) == model.tags.get(EXPERIMENT)
    return same and other and together and DIGEST in tags and tags[DIGEST] not in compared


def _sibling(store: Store, version: ModelVersion, recipe: tuple[Any, ...]) -> Resolved | None:
    try:
        sibling = find_by_digest(store, version.name, version.tags[DIGEST])
        return sibling if _recipe(store, sibling) == recipe else None
    except UserError as error:
        if is_unreachable(error):
            raise
        logger.warning(
            "%s version %s, another seed, is left out: %s", version.name, version.version, error
        )
        return None


def _recipe(store: Store, model: Resolved) -> tuple[Any, ...]:
    spec = read_spec(fetch_model(store, model) / SPEC)
    return spec.arch, spec.kwargs, spec.training
