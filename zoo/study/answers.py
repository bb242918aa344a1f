"""What networks answer on images that were changed: passes beside the one that all share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from zoo.models.consistency import CHANCE, OTHERS, depends_on
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of
from zoo.models.spec import ModelSpec
from zoo.study.accumulator import NotApplicable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import NO_ANSWER, TRAINED, name_varying


def name_if_varying(name: str, module: nn.Module, spec: ModelSpec) -> list[str]:
    """Name a network whose answers chance or other images of the batch have a part in.

    It answers a few images of noise, as `depends_on` says; most networks are not named.
    """
    found = depends_on(module, spec)
    return name_varying(name, deterministic=found != CHANCE, mixes_images=found == OTHERS)


def rated_networks(study: Study, missing: str) -> tuple[dict[int, ComparedNetwork], list[str]]:
    """Return the compared networks that know the images' classes, by index, and notes on others.

    Args:
        study: its compared networks are looked at.
        missing: what a note says of a network that does not, such as `not rated`.

    Raises:
        NotApplicable: there are no labels, or no network knows their classes.
    """
    if study.labels is None:
        raise NotApplicable("the images have no labels")
    if not study.class_names or int(np.max(study.labels)) >= len(study.class_names):
        raise NotApplicable("the labels' classes have no names")
    why = [why_unrated(study, network) for network in study.compared]
    rated = {s: network for s, network in enumerate(study.compared) if not why[s]}
    if not rated and all(network.model.spec.class_names for network in study.compared):
        raise NotApplicable("no model was trained on the classes of these images")
    notes = [
        f"{network.name}: {missing}, since {reason}"
        for network, reason in zip(study.compared, why, strict=True)
        if reason
    ]
    if not rated:
        raise NotApplicable("; ".join(notes))
    return rated, notes


def commonest_share(labels: ArrayLike) -> float:
    """Return the accuracy of always naming the commonest class.

    >>> commonest_share([3, 7, 7, 9])
    0.5
    """
    return float(np.unique(labels, return_counts=True)[1].max() / np.size(labels))


def with_seeds(study: Study, rated: Mapping[int, ComparedNetwork]) -> dict[int, ComparedNetwork]:
    """Return rated networks and their other seeds, trained ones, by index."""
    models = {network.name for network in rated.values()}
    seeds = {s: n for s, n in enumerate(study.networks) if n.of in models and n.state == TRAINED}
    return dict(rated) | seeds


def of_one_seed(study: Study, what: str) -> list[str]:
    """Say in a note that something is measured of one seed alone, where there are more."""
    seeds = [n for n in study.networks if not n.compared and n.state == TRAINED]
    return [f"{what}: of one seed of each model alone"] if seeds else []


def why_unrated(study: Study, network: ComparedNetwork) -> str:
    """Say why a network's answers are not answers to a study's classes; empty where they are."""
    if reason := without_logits(network):
        return reason
    names = tuple(network.model.spec.class_names)
    if not names:
        return "the names of its classes are not known (class_names of zoo.wrap)"
    if names != study.class_names:
        if sorted(names) == sorted(study.class_names):
            return (
                "it names the same classes in another order: put its outputs in that of the images"
            )
        return "it was trained on other classes than these images show"
    return ""


def without_logits(network: ComparedNetwork) -> str:
    """Say why a network gives no logits (n, classes); empty where it gives them."""
    shape, model = network.trace.output, network.model
    if len(shape) != 1:
        sides = " × ".join(map(str, shape)) or "one number"
        return f"it gives no logits (n, classes): its output for an image is {sides}"
    kept = bool(model.digest) and not model.spec.class_names
    # timm's networks say how many classes they know; a wrapped one's names may be left out.
    if kept or getattr(model.module, "num_classes", None) == 0:
        return "it has no classifier"
    return ""


def logits_on(network: ComparedNetwork, pixels: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Return a network's logits (n, classes) on images as it takes them (`model_input`)."""
    module = network.model.module
    with torch.inference_mode(), eval_mode(module):
        # A copy: a network may work in place on its input.
        return torch.cat([logits_of(module(part.clone())) for part in pixels.split(batch_size)])


def predictions(logits: torch.Tensor) -> NDArray[np.int64]:
    """Return the class (n,) of the highest of (n, classes) logits; −1 where one is not a number.

    >>> predictions(torch.tensor([[0.1, 0.9], [torch.nan, 0.0]])).tolist()
    [1, -1]
    """
    broken = logits.isnan().any(dim=1)
    return logits.argmax(dim=1).masked_fill(broken, NO_ANSWER).cpu().numpy()
