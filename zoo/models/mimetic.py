"""Initial weights of a ViT's attention that look like those of a trained one.

Source: Trockman and Kolter 2023 (2305.09828). In trained ViTs, Q Kᵀ of a head is near a positive
multiple of the identity, and the product of the value and output maps near a negative one.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models import VisionTransformer

# The weights of noise and identity in Q Kᵀ, and in the product of value and output maps.
QUERY_KEY, VALUE_OUTPUT = 0.7, 0.4


@torch.no_grad()
def mimetic_init(model: VisionTransformer) -> None:
    """Replace the initial weights of attention and positions; draws from torch's generator.

    With Z of independent N(0, 1/width) for each product: of each head, W_Q W_Kᵀ is the best
    approximation of 0.7 Z + 0.7 I that the head's few dimensions allow; of each block, W_V W_O is
    0.4 Z - 0.4 I. Position embeddings start as sinusoids over the grid, since attention by
    similarity is local only where near places have similar embeddings; all of it is then trained.

    Args:
        model: its blocks have timm's `attn.qkv` and `attn.proj`.
    """
    width = model.embed_dim
    for block in model.blocks:
        attention: Any = block.attn
        queries, keys, values = attention.qkv.weight.chunk(3)
        each_head = (w.chunk(attention.num_heads) for w in (queries, keys))
        for query, key in zip(*each_head, strict=True):
            left, right = factors(width, QUERY_KEY, QUERY_KEY, len(query))
            query.copy_(left.T)
            key.copy_(right)
        left, right = factors(width, VALUE_OUTPUT, -VALUE_OUTPUT, width)
        values.copy_(left.T)
        attention.proj.weight.copy_(right.T)
    if model.pos_embed is not None:
        grid = model.patch_embed.grid_size
        positions = build_sincos2d_pos_embed(grid, dim=width, device=model.pos_embed.device)
        model.pos_embed[:, -len(positions) :] = positions  # a class token comes before them


def factors(
    width: int, noise: float, identity: float, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noise·Z + identity·I and return L (width, rank) and R (rank, width) with L R near it.

    L R is the best approximation of that rank; the two share its singular values evenly.
    """
    target = noise * torch.randn(width, width) / width**0.5 + identity * torch.eye(width)
    left, values, right = torch.linalg.svd(target)
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]
