"""Attention and pooling that differ from a plain ViT's."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention
from torch import nn


class LocalSelfAttention(Attention):
    """Self-attention in which no token sees itself, at a temperature learnt for each head.

    softmax(τ·Q Kᵀ, with -∞ on the diagonal) V. Source: locality self-attention, Lee et al. 2021
    (2112.13492); a temperature for each head, as in the authors' code.
    """

    def __init__(self, dim: int, **known: Any) -> None:
        super().__init__(dim, **known)
        if not isinstance(self.q_norm, nn.Identity):
            raise ValueError("local self-attention scales its queries itself: leave out qk_norm")
        self.q_norm = Temperature(self.num_heads, self.head_dim)

    def forward(
        self, x: torch.Tensor, attn_mask: torch.Tensor | None = None, is_causal: bool = False
    ) -> torch.Tensor:
        """Map tokens (n, tokens, dim) to tokens of the same shape; other masks are refused."""
        if attn_mask is not None or is_causal:
            raise ValueError("local self-attention has its own mask: expected no other")
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return super().forward(x, attn_mask=~itself)


class Temperature(nn.Module):
    """Queries times a number learnt for each head, which replaces the fixed 1/√head_dim.

    It starts at 1/√head_dim. Attention goes on to multiply by that fixed scale, so it is taken
    out again here.
    """

    def __init__(self, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.fixed = head_dim**-0.5
        self.temperature = nn.Parameter(torch.full((num_heads,), self.fixed))

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """Map queries (n, heads, tokens, head_dim) to queries of the same shape and type."""
        factor = self.temperature / self.fixed
        return queries * factor.to(queries.dtype)[:, None, None]


class SequencePool(nn.Module):
    """The mean of all tokens, weighted by a softmax over a score learnt from each.

    Source: Hassani et al. 2021 (2104.05704), section SeqPool.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        nn.init.trunc_normal_(self.score.weight, std=0.02)
        nn.init.zeros_(self.score.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (n, tokens, width) to (n, width)."""
        weights = self.score(x).softmax(dim=1)
        return (weights * x).sum(dim=1)
