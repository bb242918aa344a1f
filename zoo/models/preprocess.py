"""From stored pixels to a model's input, and from its output to logits.

Each model gets the same images its own way.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from zoo.errors import UserError
from zoo.models.spec import ModelSpec

# Made for any order in memory. Another network may call `view`, which only the usual order allows.
ANY_ORDER = ("timm", "torchvision")


def model_input(
    images: NDArray[np.uint8] | torch.Tensor, spec: ModelSpec, module: nn.Module
) -> torch.Tensor:
    """Return images as a network takes them, on its device and in its precision.

    Args:
        images: as in `preprocess`.
        spec: as in `preprocess`.
        module: the network. Its first floating-point parameter (or buffer, without parameters)
            gives device and type; without any, the images stay as `preprocess` gives them.

    Returns:
        Floating-point tensor (n, 3, image_size, image_size).
    """
    x = preprocess(images, spec)
    tensors = chain(module.parameters(), module.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    x = in_order_for(module, x)
    return x if like is None else x.to(device=like.device, dtype=like.dtype)


def in_order_for(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return a batch (n, 3, height, width) that lies in memory as a network takes it.

    A network of timm's or torchvision's takes the channels last, as `preprocess` leaves them, which
    is faster.
    """
    made_for_any = type(module).__module__.partition(".")[0] in ANY_ORDER
    return x if made_for_any else x.contiguous()


def preprocess(images: NDArray[np.uint8] | torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Scale, resize, crop and normalise images as the model expects them.

    Args:
        images: (n, height, width, 3) uint8, or a float tensor (n, 3, height, width) that is
            already the model's input and is returned as it is.
        spec: gives size, interpolation, crop, mean and standard deviation.

    Returns:
        float32 tensor (n, 3, image_size, image_size), on the images' device; of uint8 images its
        channels lie last in memory (`in_order_for`).
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


def logits_of(output: Any) -> torch.Tensor:
    """Return the logits among what a network gives.

    Args:
        output: a tensor; a mapping, of which `logits` is taken where it has that entry; or
            several, of which the first tensor is taken: networks with more heads give the main
            one first.

    Raises:
        UserError: there is no tensor in it.
    """
    found = first_tensor(output["logits"]) if _has_logits(output) else first_tensor(output)
    if found is None:
        raise UserError(
            f"expected a network that gives logits (n, classes): its output holds no tensor, "
            f"it is {type(output).__name__}"
        )
    return found


def _has_logits(output: Any) -> bool:
    return isinstance(output, dict) and "logits" in output


def first_tensor(output: Any) -> torch.Tensor | None:
    """Return a module's output tensor; of several, the first; None where there is none."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple | list):
        return next((t for t in map(first_tensor, output) if t is not None), None)
    if isinstance(output, dict):
        return first_tensor(list(output.values()))
    return None
