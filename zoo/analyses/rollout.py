"""Attention rollout: attention followed through the layers down to the input patches, as maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.study.networks import Grid


def rollout_step(weights: torch.Tensor, below: torch.Tensor | None = None) -> torch.Tensor:
    """Return rollout after one more layer: rownorm(mean over heads of A + I) · R below.

    Args:
        weights: (…, heads, T, T), each row a distribution over keys.
        below: (…, T, T), the rollout of the layer below; None is the identity.

    Returns:
        (…, T, T); row i says how much of each input token is in token i, and sums to 1.

    Source: Abnar & Zuidema 2020, Sec. 3; the identity stands for the skip connection.
    """
    mixed = weights.mean(dim=-3)
    mixed = mixed + torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)
    return mixed if below is None else mixed @ below


def attention_rollout(weights: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """Return the rollout of every layer, (layers, …, T, T), from the input upwards.

    Args:
        weights: one (…, heads, T, T) a layer, from the input upwards.

    Raises:
        ValueError: no layer, or weights that are not square.

    >>> even = torch.full((1, 4, 4), 0.25)
    >>> attention_rollout([even, even])[-1, 0].tolist()
    [0.4375, 0.1875, 0.1875, 0.1875]
    """
    if len(weights) == 0:
        raise ValueError("expected the weights of at least one layer, got none")
    steps: list[torch.Tensor] = []
    for layer in weights:
        if layer.ndim < 3 or layer.shape[-1] != layer.shape[-2]:
            raise ValueError(f"expected weights (…, heads, T, T), got {tuple(layer.shape)}")
        steps.append(rollout_step(layer, steps[-1] if steps else None))
    return torch.stack(steps)


def token_maps(rows: torch.Tensor, grid: Grid, *, class_token: bool) -> torch.Tensor:
    """Return maps (…, height, width) over the patches from attention or rollout (…, T, T).

    Args:
        rows: T = prefix + height · width.
        grid: how the tokens lie over the image.
        class_token: whether to read the first token's row, or the mean over patch tokens' rows.
    """
    read = rows[..., 0, :] if class_token else rows[..., grid.num_prefix_tokens :, :].mean(dim=-2)
    return read[..., grid.num_prefix_tokens :].unflatten(-1, (grid.height, grid.width))
