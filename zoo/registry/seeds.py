"""The other seeds of a model, over which a comparison of plain names is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from zoo.errors import UserError
from zoo.models.spec import SPEC, read_spec
from zoo.registry.faults import is_unreachable
from zoo.registry.lookup import DIGEST, EXPERIMENT, find_by_digest, versions_of
from zoo.registry.references import Resolved, parse
from zoo.registry.resolve import fetch_model
from zoo.registry.store import Store

logger = logging.getLogger(__name__)


def other_seeds(
    store: Store, models: Sequence[Resolved], *, own_images: bool = True
) -> list[tuple[int, Resolved]]:
    """Find the other seeds of each model that was asked for by its name alone.

    For each other seed it is the newest version with the same recipe: subset, network and training
    settings. The images of the subset may depend on the seed. With `own_images`, the test split
    stored with a model, only versions with the same test split count: others may have been trained
    on its images. An experiment is no seed of the study's models, nor of another experiment's. A
    version whose files are lost or damaged is skipped with a warning: nobody asked for it.

    Returns:
        (index of the model, another seed of it), by model, then by seed.

    Raises:
        UserError: one of `models` itself is damaged.
    """
    compared = {model.digest for model in models}
    found = []
    for i, model in enumerate(models):
        if not parse(model.reference).is_name:
            continue
        with store.translate_mlflow_errors():
            versions = versions_of(store, model.name)
        others = [v for v in versions if _is_other_seed(v, model, compared, own_images)]
        recipe = _recipe(store, model) if others else ()
        seeds: dict[int, Resolved] = {}
        for version in sorted(others, key=lambda v: -int(v.version)):
            seed = int(version.tags["zoo.seed"])
            if seed not in seeds and (sibling := _sibling(store, version, recipe)):
                seeds[seed] = sibling
        found += [(i, seeds[seed]) for seed in sorted(seeds)]
    return found


def _is_other_seed(
    version: ModelVersion, model: Resolved, compared: set[str], own_images: bool
) -> bool:
    tags = version.tags
    split = "zoo.test_digest"
    same = not own_images or tags.get(split) == model.tags.get(split)
    other = tags.get("zoo.seed") != model.tags.get("zoo.seed")
    together = tags.get(EXPERIMENT) == model.tags.get(EXPERIMENT)
    known = DIGEST in tags and tags.get("zoo.seed", "").isdecimal()
    return same and other and together and known and tags[DIGEST] not in compared


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
    data = spec.source, spec.subset, spec.subset_count, spec.image_size
    return *data, spec.arch, spec.kwargs, spec.training
