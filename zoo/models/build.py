"""Build a network from its architecture's name and arguments.

The papers' models are timm's classes with the papers' sizes; what timm lacks is a ResNet-18
with the small stem used on small images, transformer blocks without skip connections, and networks
that see an image's tiles in a fixed random order.
Imported models are timm's, torchvision's or built by a user's own factory.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import psutil
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from zoo.config import check_kwargs
from zoo.errors import UserError, brief, shown, unknown
from zoo.models.factories import call_factory, check_trusted, is_factory
from zoo.models.modes import eval_mode
from zoo.models.spec import NO_SKIP, SHUFFLED, ModelSpec, plain_arch
from zoo.models.vit import cct, vit, vit_distilled, vit_gap

# Of the number of classes, the image's size and the network's own arguments.
Factory = Callable[[int, int, dict[str, Any]], nn.Module]

SMALL_IMAGE = 64
MOST_PARTS = 20_000  # the deepest of timm's has a fifth of them


def build(arch: str, *, classes: int, image_size: int, **kwargs: Any) -> nn.Module:
    """Build an untrained network; its initial weights follow torch's global generator.

    Args:
        arch: one of `ARCHITECTURES`, one of them with `-noskip<i>` (the skip connections of
            `blocks.<i>` removed) or `-shuffled<t>` (tiles of t × t pixels in a random order, drawn
            after the weights), any timm name (`timm:resnet18` is timm's own where ours has
            that name), `torchvision:NAME`, `hf:CLASS`, or a trusted factory `package.module:name`.
        classes: outputs of the classifier.
        image_size: pixels a side of the square input.
        kwargs: laid over the architecture's own arguments.

    Raises:
        UserError: unknown architecture or arguments that it does not take.
    """
    check_kwargs(arch, kwargs)
    if match := NO_SKIP.match(arch):
        model = build(match["arch"], classes=classes, image_size=image_size, **kwargs)
        return _without_skips(model, int(match["block"]), arch)
    if match := SHUFFLED.match(arch):
        model = build(match["arch"], classes=classes, image_size=image_size, **kwargs)
        return _with_shuffled_tiles(model, int(match["pixels"]), image_size, arch)
    factory = _find(arch)
    what = f"cannot build {arch} at {image_size} px with {shown(kwargs)}"
    with network_errors(what), _within_memory(arch):
        return factory(classes, image_size, kwargs)


@contextmanager
def network_errors(what: str) -> Iterator[None]:
    """Turn whatever a network raises while it is built or run into a `UserError` of one line.

    timm, torchvision and torch check arguments and inputs in many ways or not at all.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} ({brief(error)})") from error


def count_outputs(module: nn.Module, image_size: int, what: str) -> int:
    """Run a network on an image, and return how many numbers it gives: its classes.

    Raises:
        UserError: it does not take such an image, or gives something else.
    """
    refused = network_errors(f"{what} does not take an image of {image_size} px and 3 channels")
    with refused, torch.inference_mode(), eval_mode(module):
        given = module(torch.zeros(1, 3, image_size, image_size))
    if not isinstance(given, torch.Tensor) or given.ndim != 2 or len(given) != 1:
        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise UserError(f"{what}: expected an output (1, classes) of one image, got {shape}")
    return given.shape[1]


@contextmanager
def _within_memory(arch: str) -> Iterator[None]:
    """Stop building a network that has very many parts, or whose weights do not fit in memory."""
    parts, weights = 0, 0
    most = psutil.virtual_memory().total // 2  # training needs four times the weights

    def on_part(*_: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise UserError(f"{arch}: expected a network of at most {MOST_PARTS:,} parts, got more")

    def on_weights(_module: nn.Module, _name: str, given: torch.Tensor | None) -> None:
        nonlocal weights
        if given is None or given.is_meta or is_lazy(given):
            return
        weights += given.numel() * given.element_size()
        if weights > most:
            raise UserError(
                f"{arch}: expected weights of at most {most / 2**30:.1f} GB, half of the memory "
                "here, got more: ask for a smaller network"
            )

    with ExitStack() as stack:
        for hook in (
            register_module_module_registration_hook(on_part),
            register_module_parameter_registration_hook(on_weights),
        ):
            stack.callback(hook.remove)
        yield


def check_arch(arch: str) -> None:
    """Raise `UserError` unless the name stands for an architecture; builds nothing."""
    _find(plain_arch(arch))


def build_spec(spec: ModelSpec) -> nn.Module:
    """Build the untrained network of a spec; see `build`.

    Raises:
        UserError: it cannot be built here; a missing package is named with its version.
    """
    if is_factory(spec.arch):
        check_trusted(spec.arch, spec.kwargs, spec.origin)
    return build(
        spec.arch, classes=len(spec.class_names), image_size=spec.image_size, **spec.kwargs
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable numbers in a network."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _find(arch: str) -> Factory:
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch]
    library, _, name = arch.rpartition(":")
    if library in {"", "timm"}:
        return _timm_factory(name)
    if library == "torchvision":
        return _torchvision_factory(name)
    if library == "hf":
        return _hf_factory(name)
    if not is_factory(arch):
        raise unknown("arch", arch, ARCHITECTURES)

    def factory(classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
        check_trusted(arch, kwargs)
        return call_factory(arch, kwargs, classes=classes, image_size=image_size)

    return factory


def _create(name: str, kwargs: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, **kwargs)


def _resnet18(classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
    """Build ResNet-18; under 64 px with a 3×3 stem and no max-pool (11,173,962 parameters)."""
    model = _create("resnet18", {"zero_init_last": False} | kwargs | {"num_classes": classes})
    if image_size < SMALL_IMAGE:
        stem = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        model.conv1, model.maxpool = stem, nn.Identity()
    return model


def _mixer(classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
    """Build MLP-Mixer S (8 blocks, width 512), with patches for small images."""
    from timm.models.mlp_mixer import MlpMixer

    # timm's named mixers fix their patch size; the class does not.
    sizes: dict[str, Any] = {"patch_size": 4, "embed_dim": 512, "num_blocks": 8}
    return MlpMixer(**(sizes | kwargs), num_classes=classes, img_size=image_size)


def _timm_factory(name: str) -> Factory:
    import timm

    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, [*ARCHITECTURES, *timm.list_models()], n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
        own = ", ".join(ARCHITECTURES)
        raise UserError(f"unknown arch {name!r}{hint} valid: {own}, or any name that timm has")

    def factory(classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
        config = timm.get_pretrained_cfg(name)
        size = {"img_size": image_size} if config and config.fixed_input_size else {}
        return _create(name, {"num_classes": classes} | size | kwargs)

    return factory


def _torchvision_factory(name: str) -> Factory:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown_of_many("torchvision model", name, known)

    def factory(classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
        size: dict[str, Any] = {}
        if name.startswith("vit_"):
            size = {"image_size": image_size}
        elif name.startswith("maxvit_"):
            size = {"input_size": (image_size, image_size)}
        # RegNets read values while they are made, which the meta device has not. A spec's kwargs
        # must not bring weights of their own: torchvision would unpickle them.
        with torch.device("cpu"):
            outputs = {"num_classes": classes} if classes else {}
            module = models.get_model(name, weights=None, **outputs, **size, **kwargs)
        return module if classes else remove_head(module)

    return factory


def _hf_factory(name: str) -> Factory:
    def factory(classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
        from zoo.models.vision_network import build_hf

        return build_hf(name, classes, kwargs)

    return factory


def head_of(module: nn.Module) -> str:
    """Return the path of a torchvision classifier's head: its last layer with a weight matrix."""
    return [name for name, part in module.named_modules() if _has_matrix(part)][-1]


def _has_matrix(part: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in part.parameters(recurse=False))


def remove_head(module: nn.Module) -> nn.Module:
    """Let a torchvision network give features: its classifier passes on what it gets."""
    module.set_submodule(head_of(module), nn.Identity())
    return module


def unknown_of_many(kind: str, name: str, known: Sequence[str]) -> UserError:
    """Return the error for a name that is not known: it names a few of hundreds, the most like."""
    named = difflib.get_close_matches(name, known, n=5) or known[:3]
    return unknown(kind, name, named, others=len(known) - len(named))


ARCHITECTURES: dict[str, Factory] = {
    "vit": vit,
    "vit-gap": vit_gap,
    "vit-distilled": vit_distilled,
    "cct": cct,
    "resnet18": _resnet18,
    "mixer": _mixer,
}


class NoSkipBlock(nn.Module):
    """A pre-norm transformer block without its two residual connections (Raghu et al., Fig. 8)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block_type = type(block)
        for name, child in block.named_children():
            self.add_module(name, child)

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Map tokens (n, tokens, width) to tokens of the same shape."""
        x = self._branch(x, ("norm1", "attn", "ls1", "drop_path1"), kwargs)
        return self._branch(x, ("norm2", "mlp", "ls2", "drop_path2"), {})

    def _branch(
        self, x: torch.Tensor, names: tuple[str, str, str, str], kwargs: dict[str, Any]
    ) -> torch.Tensor:
        norm, branch, scale, drop = (self.get_submodule(name) for name in names)
        return drop(scale(branch(norm(x), **kwargs)))


def _without_skips(model: nn.Module, index: int, arch: str) -> nn.Module:
    blocks = getattr(model, "blocks", None)
    if blocks is None or not all(hasattr(b, "attn") and hasattr(b, "ls2") for b in blocks):
        raise UserError(f"{arch}: only a plain ViT's blocks can lose their skip connections")
    if index >= len(blocks):
        raise UserError(f"{arch}: expected a block from 0 to {len(blocks) - 1}, got {index}")
    blocks[index] = NoSkipBlock(blocks[index])
    return model


def _with_shuffled_tiles(model: nn.Module, pixels: int, image_size: int, arch: str) -> nn.Module:
    """Let a network's first part get the image with its tiles in a fixed random order.

    The order is drawn after the weights, which are those of the plain network, and kept with them.
    Images are cropped and mirrored before, so that it alone decides which tiles are neighbours.
    """
    if pixels == 0 or image_size % pixels:
        raise UserError(f"{arch}: expected tiles that divide {image_size} px, got {pixels} px")
    first = next(model.children())
    first.register_buffer("tile_order", torch.randperm((image_size // pixels) ** 2))
    first.register_forward_pre_hook(_shuffle_tiles)
    return model


def _shuffle_tiles(first: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    image, *others = given
    order = cast(torch.Tensor, first.tile_order)
    pixels = image.shape[-1] // math.isqrt(len(order))
    tiles = functional.pixel_unshuffle(image, pixels)  # the place of a tile in the last two axes
    moved = tiles.flatten(2)[..., order].view_as(tiles)
    return functional.pixel_shuffle(moved, pixels), *others
