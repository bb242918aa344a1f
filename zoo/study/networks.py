"""The networks of a study: what kind each is, how its tokens lie over the image, what they see."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.config import Settings
from zoo.study.results import TRAINED, Network

if TYPE_CHECKING:  # the claims are listed without torch
    import torch

    from zoo.capture.hook_points import OfLast
    from zoo.capture.layers import Trace
    from zoo.measures.linear_cka import CentredGram
    from zoo.models.files import LoadedModel
    from zoo.study.recorded import Record, Recorded

MOST_PREFIX = 8  # class, distillation and register tokens, where their number is guessed


@dataclass(frozen=True)
class Grid:
    """How a token sequence lies over the image: `num_prefix_tokens` (CLS, registers) come first.

    `patch` is the side of a token's patch in pixels of the model's input, the longer one of two.
    """

    num_prefix_tokens: int
    height: int
    width: int
    patch: float

    @property
    def patch_sides(self) -> tuple[float, float]:
        """Height and width of a patch in pixels; the input that all of them fill is square."""
        size = self.patch * min(self.height, self.width)
        return size / self.height, size / self.width


@dataclass(frozen=True)
class ComparedNetwork:
    """A network that takes part in a comparison.

    `name` is unique in the study. `of` is the name of the compared model that it belongs to (its
    own, if it is `compared`). The others are references: the same network before training (its
    `state` is `initial`), the same variant trained with another seed, or that seed before
    training. `family` is `vit` (every token attends to every token), `windowed` (other attention,
    including hybrids), `cnn`, `mlp` or `other`. It is `deterministic` if two passes over the same
    images give the same outputs, and `mixes_images` if an image's output depends on the others of
    its batch.
    """

    name: str
    model: LoadedModel
    trace: Trace
    layers: tuple[str, ...]
    family: str
    grid: Grid | None = None
    state: str = TRAINED
    compared: bool = True
    of: str = ""
    deterministic: bool = True
    mixes_images: bool = False

    def label(self, layer: str) -> str:
        """Return the name of one of its layers as people read it, in notes and tables."""
        role = next((known.role for known in self.trace if known.name == layer), "")
        return layer_labels([layer], [role])[0]

    def describe(self) -> Network:
        """Return the network as results know it."""
        spec = self.model.spec
        return Network(
            name=self.name,
            model=self.of or self.name,
            state=self.state,
            compared=self.compared,
            seed=spec.seed,
            arch=spec.arch,
            kwargs=json.dumps(spec.kwargs, sort_keys=True),
            family=self.family,
            parameters=spec.parameters,
            image_size=spec.image_size,
            source=spec.source,
            subset=spec.subset,
            subset_digest=spec.subset_digest,
            images=spec.subset_count,
            class_token=reads_class_token(self),
            deterministic=self.deterministic,
            mixes_images=self.mixes_images,
        )


@dataclass(frozen=True)
class Study:
    """Networks, the images that all of them see, and the settings.

    `images` is (n, height, width, 3) uint8; `labels` (n,) or None; `shown` the indices of the
    images that figures show. The compared networks come first, then their references. `recorded`
    is where passes keep what they took of networks; nowhere by default.
    """

    networks: tuple[ComparedNetwork, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    shown: tuple[int, ...]
    settings: Settings
    device: torch.device
    recorded: Recorded | None = None

    @property
    def compared(self) -> tuple[ComparedNetwork, ...]:
        """The networks that were asked for, without the references."""
        return tuple(network for network in self.networks if network.compared)

    @property
    def of_first_seeds(self) -> list[tuple[int, ComparedNetwork]]:
        """The compared networks and the same before training, without other seeds, by index."""
        seeds = {network.name: network.model.spec.seed for network in self.compared}
        return [
            (s, network)
            for s, network in enumerate(self.networks)
            if network.model.spec.seed == seeds[network.of or network.name]
        ]

    def record(self, network: ComparedNetwork, images: NDArray[np.uint8]) -> Record:
        """Return what passes took of a network on a batch of images, to be added to."""
        from zoo.study.recorded import Record

        if self.recorded is None or not network.deterministic:
            return Record()
        return self.recorded.of(network.model, images)

    @cached_property
    def centred_gram(self) -> OfLast[CentredGram]:
        """`centred_gram` of a layer's output, computed once for all analyses that ask for it."""
        from zoo.capture.hook_points import OfLast
        from zoo.measures.linear_cka import centred_gram

        return OfLast(centred_gram)


def reads_class_token(network: ComparedNetwork) -> bool:
    """Say whether a network's classifier reads a class token rather than the patches' mean.

    timm's networks say how they pool; of others, a prefix token is taken for a class token.
    """
    pool = getattr(network.model.module, "global_pool", "token")
    return has_class_token(network) and pool in ("token", "")


def has_class_token(network: ComparedNetwork) -> bool:
    """Say whether the first of a network's tokens is a class token rather than a register."""
    if network.grid is None or network.grid.num_prefix_tokens == 0:
        return False
    module = network.model.module
    return getattr(module, "cls_token", module) is not None


def family_of(layers: Trace) -> str:
    """Say what kind of network it is, from what it computes rather than from its name."""
    names = layers.of_role("block")
    if layers.not_batch_first and not names:
        return "other"  # the layers around its blocks do not say what it is
    blocks = [layer for layer in layers if layer.role == "block"] or list(layers)
    # A CNN may pool by attention after its blocks.
    attending = [
        layer.attends
        for layer in layers
        if layer.attends and (not names or block_of(names, layer.name) >= 0)
    ]
    if attending:
        over_all = all(found.of_tokens and found.shape[0] == 1 for found in attending)
        _, _, queries, keys = attending[0].shape
        # Where tokens are merged on the way (LeViT), there is no one grid that they lie on; where
        # a class token alone asks (CaiT), or joins late (ConViT), there is.
        sides = {found.shape[2] for found in attending if found.shape[2] == found.shape[3]}
        over_all &= bool(sides) and max(sides) - min(sides) <= 1
        # A hybrid that attends in some blocks hands on maps, not tokens.
        tokens = 2 * sum(len(layer.shape) == 2 for layer in blocks) >= len(blocks)
        return "vit" if over_all and queries == keys and tokens else "windowed"
    if layers.recurrent:
        return "other"
    if any(len(layer.shape) == 3 for layer in blocks):
        return "cnn"
    return "mlp" if any(len(layer.shape) == 2 for layer in blocks) else "other"


def layer_labels(names: Iterable[object], roles: Iterable[object]) -> list[str]:
    """Return layers' names as people read them: what ends a stem is called that.

    The last module before the first block may be one that does nothing, such as `norm_pre`.

    >>> layer_labels(["norm_pre", "blocks.0"], ["stem", "block"])
    ['stem', 'blocks.0']
    """
    return [
        "stem" if role == "stem" else str(name) for name, role in zip(names, roles, strict=True)
    ]


def block_of(blocks: Sequence[str], layer: str) -> int:
    """Return the index of the block that a layer is or lies in; −1 for none."""
    for i, block in enumerate(blocks):
        if layer == block or layer.startswith((f"{block}.", f"{block}#")):
            return i
    return -1


def token_grid(model: LoadedModel, layers: Trace, family: str) -> Grid | None:
    """Find how the tokens of a model's blocks lie over the image; None where they do not.

    timm's networks state their grid, or how many tokens come before a square one. Of others, the
    patches are counted where they are cut: in the maps that the stem hands on. Without such maps,
    tokens are taken for a square with few others before it, if its patches fill the image.
    """
    blocks = [layer for layer in layers if layer.role == "block" and len(layer.shape) == 2]
    shapes = [layer.shape for layer in blocks]
    if family in ("cnn", "other") or not shapes or not all(layer.in_rows for layer in blocks):
        return None
    tokens, size = max(shape[0] for shape in shapes), model.spec.image_size
    known = getattr(model.module, "num_prefix_tokens", None)
    stated = getattr(getattr(model.module, "patch_embed", None), "grid_size", None)
    if stated and tokens - math.prod(stated) in (0, known):
        (height, width), fits = stated, True
    elif known is not None:
        # A class token that attends alone (CaiT) is not among the tokens of the blocks before.
        fitting = [n for n in (int(known), 0) if math.isqrt(max(0, tokens - n)) ** 2 == tokens - n]
        height = width = math.isqrt(tokens - fitting[0]) if fitting else 0
        fits = height > 0
    elif places := _stem_places(layers, tokens):
        (height, width), fits = places, True
    else:
        height = width = math.isqrt(tokens)
        fits = tokens - height * width <= MOST_PREFIX and size % height == 0
    if family == "windowed":  # where tokens merge on the way, there is no one grid
        fits = fits and {shape[0] for shape in shapes} <= {height * width, tokens}
    return Grid(tokens - height * width, height, width, size / min(height, width)) if fits else None


def _stem_places(layers: Trace, tokens: int) -> tuple[int, int] | None:
    """Return height and width of the largest map before the blocks with at most so many places."""
    names = [layer.name for layer in layers]
    stem = layers.of_role("stem")
    before = names[: names.index(stem[-1]) + 1] if stem else []
    maps = [layers[name].shape[1:] for name in before if len(layers[name].shape) == 3]
    # A map of fewer places is no grid of patches but a step of something else, such as a gate.
    fitting = [(h, w) for h, w in maps if 0 <= tokens - h * w <= max(h * w, MOST_PREFIX)]
    return max(fitting, key=math.prod) if fitting else None
