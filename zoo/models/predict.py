"""What a classifier says of images: probabilities, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.errors import UserError
from zoo.models.files import LoadedModel
from zoo.models.preprocess import preprocess

BATCH = 64


def probabilities(
    model: LoadedModel, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Return the softmax (n, classes), float32, of a model's logits.

    Args:
        model: a classifier.
        images: (n, height, width, 3) uint8, or a list of (height, width, 3) of any sizes.

    Raises:
        UserError: the model has no classifier, or gives NaN.
    """
    classes = len(model.spec.class_names)
    if not classes:
        raise UserError(f"{model.name} has no classifier: it gives features, not classes")
    parts = [np.zeros((0, classes), np.float32)]
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        if isinstance(some, np.ndarray):
            batch = preprocess(some, model.spec)
        else:
            batch = torch.cat([preprocess(image[None], model.spec) for image in some])
        parts.append(torch.softmax(model(batch).float(), dim=1).cpu().numpy())
    rows = np.concatenate(parts)
    if lost := int(np.isnan(rows).any(axis=1).sum()):
        raise UserError(
            f"{model.name} gives NaN for {lost} of {len(rows)} images, so it names no class: its "
            "numbers overflow; train it again, or at a higher precision"
        )
    return rows
