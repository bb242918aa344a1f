"""Random crops and flips of a whole batch at once, a different one for every image."""

from __future__ import annotations

import torch
from torch.nn import functional


def random_crop_flip(images: torch.Tensor, *, padding: int, flip: bool) -> torch.Tensor:
    """Shift every image by up to `padding` pixels (black enters) and mirror half of them.

    Args:
        images: (n, height, width, 3) uint8.
        padding: pixels added on every side before the crop back to the original size.
        flip: whether to mirror images left to right, each with probability 1/2.

    Returns:
        Images of the same shape and type; draws from torch's global generator.
    """
    count, height, width, _ = images.shape
    if not padding and not flip:
        return images
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    top, left = torch.randint(2 * padding + 1, (2, count, 1))
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]]
