"""What networks answer on images that were changed: passes beside the one that all share."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of
from zoo.study.accumulator import NotApplicable
from zoo.study.networks import ComparedNetwork, Study

UNDECIDED = -1


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
    rated = {
        s: network
        for s, network in enumerate(study.compared)
        if tuple(network.model.spec.class_names) == study.class_names
    }
    if not rated:
        raise NotApplicable("no model was trained on the classes of these images")
    return rated, [
        f"{network.name}: {missing}, since it was trained on other classes than these images show"
        for s, network in enumerate(study.compared)
        if s not in rated
    ]


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
    return logits.argmax(dim=1).masked_fill(broken, UNDECIDED).cpu().numpy()
