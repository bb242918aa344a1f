"""Deletion: does a map of what matters hold up when what it marks is removed?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

STEPS = 10

Predict = Callable[[torch.Tensor], torch.Tensor]


def upsample(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return maps (n, h, w) bilinearly enlarged to (n, height, width)."""
    size = (height, width)
    grown = functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)
    return grown[:, 0]


def rank_pixels(maps: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """Return pixel indices (n, height·width) of maps (n, height, width), the highest first.

    Equal pixels are put in random order: an order of rows would itself mark the upper rows.
    """
    flat = maps.flatten(1).cpu()
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    ranks = flat[:, order].argsort(dim=1, descending=True, stable=True)
    return order[ranks].to(maps.device)


def deletion_curves(
    predict: Predict,
    pixels: torch.Tensor,
    maps: Mapping[str, torch.Tensor],
    classes: torch.Tensor,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Return a class's probability as the pixels that a map ranks highest are removed.

    Args:
        predict: takes images like `pixels`, gives probabilities (n, classes).
        pixels: (n, channels, height, width), a model's input.
        maps: (n, height, width) each, higher is more important.
        classes: (n,) the class whose probability is followed.
        steps: into how many equal parts the pixels are divided.
        seed: of the order among equally ranked pixels.

    Returns:
        For each map (n, steps + 1): with nothing removed, up to all of it. A removed pixel gets
        the mean colour of its image.

    Source: Petsiuk et al. 2018, Sec. 3 (deletion), with the image's mean for a removed pixel.
    """

    def probability(x: torch.Tensor) -> torch.Tensor:
        return predict(x).gather(1, classes[:, None])[:, 0]

    mean = pixels.mean(dim=(2, 3), keepdim=True)
    # Both ends are the same for every map.
    whole, emptied = probability(pixels), probability(mean.expand_as(pixels).clone())
    found = {}
    for kind, values in maps.items():
        ranked = rank_pixels(values, seed=seed)
        left = pixels.flatten(2).clone()
        total, done, curve = ranked.shape[1], 0, [whole]
        for step in range(1, steps):
            count = round(total * step / steps)
            where = ranked[:, None, done:count].expand(-1, left.shape[1], -1)
            left.scatter_(2, where, mean.flatten(2).expand(-1, -1, count - done))
            done = count
            curve.append(probability(left.view_as(pixels)))
        found[kind] = torch.stack([*curve, emptied], dim=1)
    return found


def area_under(curves: torch.Tensor) -> torch.Tensor:
    """Return the area (n,) under curves (n, points) over the removed share, by trapezia.

    >>> area_under(torch.tensor([[1.0, 0.0, 0.0]])).tolist()
    [0.25]
    """
    return (curves[:, 1:] + curves[:, :-1]).mean(dim=1) / 2
