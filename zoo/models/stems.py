"""Stems that cut an image into the tokens of a ViT, other than one linear map of each patch.

All give the same grid of tokens as `timm.layers.PatchEmbed` with the same `patch_size`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from timm.layers import HybridEmbed, PatchEmbed
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn
from torch.nn import functional

TOKENIZER_CHANNELS = 64


def convolutional_stem(*, patch_size: int, embed_dim: int, **known: Any) -> nn.Module:
    """Build a stem of 3×3 convolutions of stride 2 instead of one convolution of a patch.

    The channels double from layer to layer up to `embed_dim`; batch norm and ReLU follow every
    layer but the last, which stands for the projection. Source: Xiao et al. 2021 (2106.14881).

    Args:
        patch_size: pixels a side of a token, a power of 2.
        embed_dim: width of the tokens.
        known: the other arguments of `PatchEmbed`.
    """
    halvings = _halvings(patch_size)
    backbone = ConvStem(depth=halvings, channels=embed_dim, stride=(2,) * halvings)
    return HybridEmbed(backbone, embed_dim=embed_dim, proj=False, **_shared(known))


def convolutional_tokenizer(*, patch_size: int, embed_dim: int, **known: Any) -> nn.Module:
    """Build CCT's tokenizer: 3×3 convolution, ReLU and 3×3 max-pool of stride 2, repeated.

    Source: Hassani et al. 2021 (2104.05704), `CCT-…/3x2` for a `patch_size` of 4.

    Args:
        patch_size: pixels a side of a token, a power of 2; a layer for each halving.
        embed_dim: width of the tokens.
        known: the other arguments of `PatchEmbed`.
    """
    layers: list[nn.Module] = []
    widths = [3, *[TOKENIZER_CHANNELS] * (_halvings(patch_size) - 1), embed_dim]
    for inputs, outputs in pairwise(widths):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        layers.append(nn.Sequential(convolution, nn.ReLU(), pool))
    return HybridEmbed(nn.Sequential(*layers), embed_dim=embed_dim, proj=False, **_shared(known))


class ShiftedPatchEmbed(PatchEmbed):
    """Patches of the image and of its four copies shifted diagonally by half a patch.

    Each token sees twice its patch's side. What is shifted in from outside is zero. The values of
    a token's five patches pass a layer norm and a linear map. Source: shifted patch tokenization,
    Lee et al. 2021 (2112.13492), without its use for pooling between stages.
    """

    proj: Any  # a convolution in the parent

    def __init__(self, *, patch_size: int, embed_dim: int, **known: Any) -> None:
        super().__init__(patch_size=patch_size, embed_dim=embed_dim, **known)
        if patch_size % 2:
            raise ValueError(f"shifted patches: expected an even patch_size, got {patch_size}")
        values = 5 * self.proj.in_channels * patch_size**2
        self.norm = nn.LayerNorm(values)
        self.proj = nn.Linear(values, embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (n, channels, height, width) to tokens (n, tokens, embed_dim)."""
        side = self.patch_size[0]
        x = functional.pixel_unshuffle(with_shifted_copies(x, side // 2), side)
        return self.proj(self.norm(x.flatten(2).transpose(1, 2)))


def with_shifted_copies(x: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return images (n, 5·channels, height, width): themselves, and shifted to the four corners.

    Args:
        x: images (n, channels, height, width).
        pixels: how far they are shifted along each axis; zeros come in.
    """
    height, width = x.shape[-2:]
    padded = functional.pad(x, (pixels,) * 4)
    ends = (0, 2 * pixels)
    copies = [padded[..., i : i + height, j : j + width] for i in ends for j in ends]
    return torch.cat([x, *copies], dim=1)


def _halvings(patch_size: int) -> int:
    if patch_size < 2 or patch_size & (patch_size - 1):
        raise ValueError(
            f"a convolutional stem: expected a patch_size that is a power of 2, got {patch_size}"
        )
    return patch_size.bit_length() - 1


def _shared(known: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only a projection of patches takes."""
    return {name: value for name, value in known.items() if name != "bias"}


STEMS: dict[str, Callable[..., nn.Module]] = {
    "patches": PatchEmbed,
    "convolutions": convolutional_stem,
    "tokenizer": convolutional_tokenizer,
    "shifted": ShiftedPatchEmbed,
}
