"""Who takes part in a comparison: the networks asked for, and their baselines."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.capture.branches import residual_blocks
from zoo.capture.layers import select_layers, trace
from zoo.config import Settings
from zoo.errors import UserError
from zoo.measures.sampling import MIN_BATCH
from zoo.models.consistency import CHANCE, OTHERS, depends_on
from zoo.models.files import LoadedModel
from zoo.models.preprocess import model_input
from zoo.models.untrained import before_training
from zoo.study.networks import ComparedNetwork, Study, family_of, token_grid
from zoo.study.recorded import Recorded
from zoo.study.results import INITIAL
from zoo.study.shown import choose_shown
from zoo.study.spatial_layout import with_known_order

logger = logging.getLogger(__name__)


def prepare_study(
    models: Sequence[LoadedModel],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    class_names: Sequence[str],
    siblings: Sequence[tuple[int, LoadedModel]],
    settings: Settings,
    device: str | torch.device,
    recorded: Recorded | None = None,
) -> Study:
    """Check what is to be compared, and look at every network that takes part.

    Arguments and errors as in `zoo.analyses.engine.compare_models`; `recorded` as in `Study`.
    """
    names = [model.name for model in models]
    if not names:
        raise UserError("expected one or more models, got none")
    if len(set(names)) != len(names):
        raise UserError(f"expected models with different names, got {', '.join(names)}")
    check_images("images", images)
    if labels is not None and len(labels) != len(images):
        raise UserError(f"expected {len(images)} labels, got {len(labels)}")
    if labels is not None and labels.min() < 0:
        raise UserError(f"labels: expected class indices from 0 on, got {labels.min()}")
    device = torch.device(device)
    compared = [look_at(model, settings, device) for model in models]
    networks = list(compared)
    if settings.references:
        networks += _initial(compared, settings, device)
        others = list(_other_seeds(compared, siblings, settings, device))
        networks += [*others, *_initial(others, settings, device)]
        _check_references(networks)
    study = Study(
        tuple(networks), images, labels, tuple(class_names), (), settings, device, recorded
    )
    return dataclasses.replace(study, shown=choose_shown(study))


def check_images(name: str, images: NDArray[np.uint8]) -> None:
    """Raise `UserError` where images are no (n, height, width, 3) uint8, n >= 4."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        got = f"got {images.shape} {images.dtype}"
        raise UserError(f"{name}: expected (n, height, width, 3) uint8, {got}{_remedy(images)}")
    if len(images) < MIN_BATCH:
        raise UserError(f"{name}: expected at least {MIN_BATCH} images, got {len(images)}")


def _remedy(images: NDArray[Any]) -> str:
    """Say how the commonest other forms of images become the expected one."""
    if images.ndim == 3 and images.shape[-1] == 3:
        return "; several images are expected, not one"
    if images.ndim == 3 or images.shape[3:] == (1,):
        return "; repeat the grey channel: np.repeat(images.reshape(*images.shape[:3], 1), 3, -1)"
    if images.ndim == 4 and images.shape[1] == 3:
        return "; put the channels last: images.transpose(0, 2, 3, 1)"
    if images.ndim == 4 and images.dtype.kind == "f" and images.size:
        if images.min() < 0:
            return "; give the pixels as they were before they were normalised"
        scaled = "(images * 255)" if images.max() <= 1 else "images"
        return f"; give whole numbers from 0 to 255: {scaled}.round().astype(np.uint8)"
    return ""


def look_at(model: LoadedModel, settings: Settings, device: torch.device) -> ComparedNetwork:
    """Look at a model once: its layers in order, its family, and how its tokens lie."""
    module = model.module.to(device)
    size = model.spec.image_size
    blank = model_input(torch.zeros(1, 3, size, size), model.spec, module)
    found = trace(module, blank)
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    noise = model_input(noise, model.spec, module)
    if not found.of_role("block") and (blocks := residual_blocks(module, found, noise)):
        found = trace(module, blank, blocks)
    family = family_of(found)
    if found.not_batch_first:
        logger.warning(
            "%s: %d blocks are left out: their outputs do not have the images on the first axis",
            model.name,
            len(found.not_batch_first),
        )
    varies_with = depends_on(module, model.spec)
    network = ComparedNetwork(
        name=model.name,
        model=model,
        trace=found,
        layers=select_layers(found, settings.layers),
        family=family,
        grid=token_grid(model, found, family),
        of=model.name,
        deterministic=varies_with != CHANCE,
        mixes_images=varies_with == OTHERS,
    )
    return with_known_order(network, noise)


def _initial(
    compared: Sequence[ComparedNetwork], settings: Settings, device: torch.device
) -> Iterator[ComparedNetwork]:
    """Yield the same networks before training, where their initial weights are known."""
    for trained in compared:
        if model := before_training(trained.model):
            network = look_at(model, settings, device)
            yield dataclasses.replace(network, state=INITIAL, compared=False, of=trained.of)


def _other_seeds(
    compared: Sequence[ComparedNetwork],
    siblings: Sequence[tuple[int, LoadedModel]],
    settings: Settings,
    device: torch.device,
) -> Iterator[ComparedNetwork]:
    for of, sibling in siblings:
        name = f"{compared[of].name} seed {sibling.spec.seed}"
        network = look_at(dataclasses.replace(sibling, name=name), settings, device)
        yield dataclasses.replace(network, compared=False, of=compared[of].name)


def _check_references(networks: Sequence[ComparedNetwork]) -> None:
    """Raise `UserError` where a model has the name of another one's reference."""
    compared = {network.name for network in networks if network.compared}
    for network in networks:
        if not network.compared and network.name in compared:
            what = "before training" if network.state == INITIAL else "of another seed"
            raise UserError(
                f"{network.name!r} is the name of {network.of!r} {what} in this "
                "comparison: give that model another name, or leave the references out "
                "(Settings(references=False), --no-references)"
            )
