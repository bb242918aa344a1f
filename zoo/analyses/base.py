"""What every analysis is made of: a study goes in, a result comes out.

An analysis is a module in this package with

- `ABOUT`, an `About`: what it is, for people;
- `start(study) -> Accumulator`: raises `NotApplicable` where no model of the study suits it;
- `draw(result) -> {name: Figure}`: figures from the arrays alone;
- its measures as pure functions (arrays in, arrays out), usable without any of the above.

The engine (`zoo.engine`) shows each accumulator what it asked to see, in one pass of each
model over the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.config import Settings

if TYPE_CHECKING:  # the claims are listed without torch
    import torch

    from zoo.capture.layers import Trace
    from zoo.capture.taps import Tap
    from zoo.models.files import LoadedModel

MOST_PREFIX = 8  # class, distillation and register tokens, where their number is guessed


class NotApplicable(Exception):  # noqa: N818 - it is no error
    """An analysis has nothing to say of these models; the message says why. No error."""


@dataclass(frozen=True)
class About:
    """An analysis as people meet it.

    `shows` says in a sentence or two what it shows; `reading` how to read the figure; `needs`
    is `outputs`, `activations`, `attention` or `gradients`; `source` names paper and figures.
    `settings` are the fields of `Settings` that decide its numbers or figures. `captions` say
    what a figure shows, by its name, where {} stands for the model or pair that it is of.
    """

    name: str
    title: str
    shows: str
    reading: str
    needs: str
    source: str
    settings: tuple[str, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """How a token sequence lies over the image: `prefix` tokens (CLS, registers) come first.

    `patch` is the side of a token's patch in pixels of the model's input.
    """

    prefix: int
    height: int
    width: int
    patch: float


@dataclass(frozen=True)
class Subject:
    """A model under study.

    `role` is `model`, or for a reference that similarities are read against, `untrained` (the
    same architecture before training) or `seed` (the same variant, another seed); `of` is then
    the index of the model it belongs to. `family` is `vit` (every token attends to every token),
    `windowed` (attention of another kind, hybrids too), `cnn`, `mlp` or `other`.
    """

    name: str
    model: LoadedModel
    trace: Trace
    layers: tuple[str, ...]
    family: str
    grid: Grid | None = None
    role: str = "model"
    of: int = 0


@dataclass(frozen=True)
class Study:
    """Models, the images that all of them see, and the settings.

    `images` is (n, height, width, 3) uint8; `labels` (n,) or None; `shown` the indices of the
    images that figures show. The first `len(models)` subjects are the models themselves.
    """

    subjects: tuple[Subject, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    shown: tuple[int, ...]
    settings: Settings
    device: torch.device

    @property
    def models(self) -> tuple[Subject, ...]:
        """The subjects that are compared, without the references."""
        return tuple(s for s in self.subjects if s.role == "model")


@dataclass(frozen=True)
class Batch:
    """The images `start` to `stop` of a study, and each subject's logits (n, classes)."""

    start: int
    stop: int
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    logits: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Array:
    """Numbers with named dimensions and a unit (empty: a pure number)."""

    values: NDArray[Any]
    dims: tuple[str, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != len(self.dims):
            raise ValueError(f"expected {self.values.ndim} dims, got {self.dims}")


@dataclass(frozen=True)
class Scale:
    """How maps of one kind are named and coloured, in figures and in the page alike.

    `low` and `high` are the values of the darkest and the brightest colour; None is each map's
    own lowest or highest. Colours follow the logarithm where `log`. `empty` is what is said of a
    map that is 0 everywhere.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    empty: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """Return its low and high, for figures whose maps share them.

        Raises:
            ValueError: each map has its own.
        """
        if self.low is None or self.high is None:
            raise ValueError(f"expected a scale with two ends, got {self.low} and {self.high}")
        return self.low, self.high


@dataclass(frozen=True)
class Result:
    """What an analysis found.

    `arrays` keep everything that its figures show; `labels` name the positions along a
    dimension; `metrics` are scalars with stable names, and counts among them are int; `notes`
    say what did not apply or was degenerate, naming the model and layer; `models` are the
    compared models' names, in order. `images` is how many images it measured on, where those are
    not all of the study; `scales` say how arrays are drawn, by the first part of their names, the
    first to be shown first.
    """

    models: tuple[str, ...]
    arrays: Mapping[str, Array]
    metrics: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    images: int | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)


class Accumulator:
    """Sees what it asked for, batch by batch, and keeps only what its result needs.

    Its memory must not grow with the number of images, except for per-image scalars.
    """

    def taps(self, subject: int) -> Iterable[Tap]:
        """Return what it wants to watch of a subject."""
        return ()

    def observe(self, subject: int, tap: Tap, value: torch.Tensor) -> None:
        """Take what it needs of a tensor now: later operations may overwrite it."""

    def end_batch(self, batch: Batch) -> None:
        """Use what was observed; all subjects have now seen the batch."""

    def result(self) -> Result:
        """Return what was found; gradient analyses make their own passes here."""
        raise NotImplementedError


__all__ = [
    "About",
    "Accumulator",
    "Array",
    "Batch",
    "Grid",
    "NotApplicable",
    "Result",
    "Scale",
    "Settings",
    "Study",
    "Subject",
    "family_of",
    "pair_name",
    "token_grid",
]


def pair_name(a: str, b: str) -> str:
    """Return the name of a pair of models in the names of metrics and arrays."""
    return f"{a}__{b}"


def family_of(layers: Trace) -> str:
    """Say what kind of network it is, from what it computes rather than from its name."""
    names = layers.of_role("block")
    if layers.turned and not names:
        return "other"  # the layers around its blocks do not say what it is
    blocks = [layer for layer in layers if layer.role == "block"] or list(layers)
    # A CNN may pool by attention after its blocks.
    attending = [
        layer.attention
        for layer in layers
        if layer.attention and (not names or _is_inside(layer.name, names))
    ]
    if attending:
        over_all = all(windows == 1 for windows, *_ in attending)
        _, _, queries, keys = attending[0]
        # Where tokens are merged on the way (LeViT), there is no one grid that they lie on; where
        # a class token alone asks (CaiT), there is.
        over_all &= len({q for _, _, q, k in attending if q == k}) == 1
        # A hybrid that attends in some blocks hands on maps, not tokens.
        tokens = 2 * sum(len(layer.shape) == 2 for layer in blocks) >= len(blocks)
        return "vit" if over_all and queries == keys and tokens else "windowed"
    if any(len(layer.shape) == 3 for layer in blocks):
        return "cnn"
    return "mlp" if any(len(layer.shape) == 2 for layer in blocks) else "other"


def _is_inside(name: str, blocks: Sequence[str]) -> bool:
    return any(name == block or name.startswith((f"{block}.", f"{block}#")) for block in blocks)


def token_grid(model: LoadedModel, layers: Trace) -> Grid | None:
    """Find how the tokens of a model's blocks lie over the image; None where they do not.

    How many tokens come before the patches is known of timm's networks. Of others, the patches
    are counted where they are cut: in the maps that the stem hands on. Without such maps, tokens
    are taken for a square with few others before it, if its patches fill the image.
    """
    shapes = [layer.shape for layer in layers if layer.role == "block" and len(layer.shape) == 2]
    if not shapes:
        return None
    tokens, size = shapes[0][0], model.spec.image_size
    known = getattr(model.module, "num_prefix_tokens", None)
    if known is not None:
        # A class token that joins late (CaiT) is not among the tokens of the first block.
        fitting = [n for n in (int(known), 0) if math.isqrt(max(0, tokens - n)) ** 2 == tokens - n]
        height = width = math.isqrt(tokens - fitting[0]) if fitting else 0
        fits = height > 0
    elif places := _stem_places(layers, tokens):
        height, width = places
        # Inputs are square: a grid that is not has patches whose sides differ.
        fits = height == width
    else:
        height = width = math.isqrt(tokens)
        fits = tokens - height * width <= MOST_PREFIX and size % height == 0
    return Grid(tokens - height * width, height, width, size / height) if fits else None


def _stem_places(layers: Trace, tokens: int) -> tuple[int, int] | None:
    """Return height and width of the largest map before the blocks with at most so many places."""
    names = [layer.name for layer in layers]
    stem = layers.of_role("stem")
    before = names[: names.index(stem[-1]) + 1] if stem else []
    maps = [layers[name].shape[1:] for name in before if len(layers[name].shape) == 3]
    # A map of fewer places is no grid of patches but a step of something else, such as a gate.
    fitting = [(h, w) for h, w in maps if 0 <= tokens - h * w <= max(h * w, MOST_PREFIX)]
    return max(fitting, key=math.prod) if fitting else None
