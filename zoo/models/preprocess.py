"""From stored pixels to a model's input: each model gets the same images its own way."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from zoo.models.spec import ModelSpec


def preprocess(images: NDArray[np.uint8] | torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Scale, resize, crop and normalise images as the model expects them.

    Args:
        images: (n, height, width, 3) uint8, or a float tensor (n, 3, height, width) that is
            already the model's input and is returned as it is.
        spec: gives size, interpolation, crop, mean and standard deviation.

    Returns:
        float32 tensor (n, 3, image_size, image_size), on the images' device.
    """
    if isinstance(images, torch.Tensor) and images.is_floating_point():
        return images
    if isinstance(images, np.ndarray):
        # Copied where it is a read-only memory map, which a tensor must not share.
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    x = images.permute(0, 3, 1, 2).to(torch.float32) / 255
    x = resize_and_crop(x, spec)
    mean = torch.tensor(spec.mean, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x - mean) / std


def resize_and_crop(x: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Resize (n, 3, h, w) so that the shorter side fits, and crop the centre square."""
    height, width = x.shape[-2:]
    size = spec.image_size
    if (height, width) == (size, size) and spec.crop_fraction == 1.0:
        return x
    scale = round(size / spec.crop_fraction) / min(height, width)
    scaled = (max(size, round(height * scale)), max(size, round(width * scale)))
    smooth = spec.interpolation != "nearest"
    x = functional.interpolate(
        x,
        size=scaled,
        mode=spec.interpolation,
        antialias=smooth,
        align_corners=False if smooth else None,
    )
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return x[:, :, top : top + size, left : left + size].clamp(0, 1)
