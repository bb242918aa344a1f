"""Where a layer's output lies over the image, and which layers and images are looked at.

Shared by the analyses of features: the same rules for CNNs, ViTs and windowed transformers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.capture.hook_points import HookPoint, observe
from zoo.measures.sampling import even_batches
from zoo.models.modes import eval_mode
from zoo.models.preprocess import model_input, resize_and_crop
from zoo.models.spec import plain_arch
from zoo.study.networks import ComparedNetwork

MAX_LAYERS = 32
SMALLEST_GRID = 4  # places along a side: of fewer, hardly anything can be said
# Fewer images, or a share nearer to 1, would call chance an order.
SORTED_IMAGES, SORTED_SHARE = 64, 0.8


@dataclass(frozen=True)
class Layout:
    """How a layer's output for one image lies over it: `height` × `width` places, row by row.

    `kind` is `tokens` (prefix tokens + places, channels), `channels_first` (channels, height,
    width) or `channels_last` (height, width, channels); `num_prefix_tokens` counts the tokens
    before the places.
    """

    kind: str
    height: int
    width: int
    num_prefix_tokens: int = 0


def layout_of(network: ComparedNetwork, layer: str) -> Layout | None:
    """Say how a layer's output lies over the image; None where it does not or this is not known.

    Tokens of attention within windows lie over it where a square of them divides the image. What a
    layer gives for one window after the other does not.
    Inputs are square, so the two equal sides of three are height and width. Three equal sides
    are taken for channels first in a CNN, and where all blocks that are known put them first.
    """
    found = network.trace[layer]
    shape = found.shape
    if not found.in_rows:
        return None
    if len(shape) == 2 and network.grid:
        grid = network.grid
        # A class token may join on the way (ConViT).
        prefix = shape[0] - grid.height * grid.width
        fits = prefix in (0, grid.num_prefix_tokens)
        return Layout("tokens", grid.height, grid.width, prefix) if fits else None
    if len(shape) == 2 and network.family == "windowed":
        # Hugging Face's Swin hands tokens from block to block, without any before them.
        side = math.isqrt(shape[0])
        fits = side > 1 and side**2 == shape[0] and network.model.spec.image_size % side == 0
        return Layout("tokens", side, side) if fits else None
    if len(shape) != 3 or (network.grid and found.role == "inner"):
        return None
    kind = _kind(shape)
    if kind == "either":
        blocks = {_kind(network.trace[name].shape) for name in network.trace.of_role("block")}
        first = network.family == "cnn" or blocks - {"either"} == {"channels_first"}
        kind = "channels_first" if first else ""
    if kind == "channels_first":
        return Layout(kind, shape[1], shape[2])
    return Layout(kind, shape[0], shape[1]) if kind == "channels_last" else None


def _kind(shape: tuple[int, ...]) -> str:
    if len(shape) != 3 or len(set(shape)) == 3:
        return ""
    if len(set(shape)) == 1:
        return "either"
    if shape[1] == shape[2]:
        return "channels_first"
    return "channels_last" if shape[0] == shape[1] else ""


def with_known_order(network: ComparedNetwork, image: torch.Tensor) -> ComparedNetwork:
    """Return a network without the layouts that do not hold.

    No layer of a network with shuffled tiles lies over the image. One of attention in windows may
    order tokens window by window, or by how they will be merged (Hiera): another value of a place
    in the image has to change the layer most at that place.

    Args:
        network: what is known of it.
        image: an input (1, 3, size, size) that is not constant.
    """
    arch = network.model.spec.arch
    if "-shuffled" in arch.removeprefix(plain_arch(arch)):
        return _without_layouts(network, {layer.name for layer in network.trace})
    layouts = ((layer.name, layout_of(network, layer.name)) for layer in network.trace)
    doubtful = {name: at for name, at in layouts if at and at.kind != "channels_first"}
    large = [n for n, at in doubtful.items() if min(at.height, at.width) >= SMALLEST_GRID]
    first = next((name for name in network.trace.of_role("block") if name in large), None)
    if network.family != "windowed" or not first:
        return network
    if _in_rows(network, first, doubtful[first], image):
        return network
    return _without_layouts(network, doubtful)


def _without_layouts(network: ComparedNetwork, names: Container[str]) -> ComparedNetwork:
    layers = tuple(
        dataclasses.replace(layer, in_rows=layer.in_rows and layer.name not in names)
        for layer in network.trace
    )
    trace = dataclasses.replace(network.trace, layers=layers)
    return dataclasses.replace(network, trace=trace, grid=None)


def _in_rows(network: ComparedNetwork, layer: str, layout: Layout, image: torch.Tensor) -> bool:
    """Say whether two places of the image, far from the diagonal, lie in a layer where expected."""
    module, size = network.model.module, image.shape[-1]
    seen: list[torch.Tensor] = []
    places = [(layout.height // 4, 3 * layout.width // 4), (3 * layout.height // 4, 0)]
    with (
        torch.inference_mode(),
        eval_mode(module),
        observe(module, [HookPoint(layer)], lambda _, value: seen.append(value.clone())),
    ):
        module(image.clone())
        for row, column in places:
            other = image.clone()
            rows, columns = (
                slice(at * size // side, (at + 1) * size // side)
                for at, side in ((row, layout.height), (column, layout.width))
            )
            other[..., rows, columns] *= -1
            module(other)
    for (row, column), value in zip(places, seen[1:], strict=True):
        change = places_of((value - seen[0]).float(), layout).norm(dim=-1)[0]
        at = divmod(int(change.argmax()), layout.width)
        if max(abs(at[0] - row), abs(at[1] - column)) > 1:
            return False
    return True


def places_of(value: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return a layer's output as (n, places, channels), without prefix tokens; no copy."""
    if layout.kind == "tokens":
        return value[:, layout.num_prefix_tokens :]
    if layout.kind == "channels_first":
        return value.flatten(2).transpose(1, 2)
    return value.flatten(1, 2)


def last_block(network: ComparedNetwork) -> str | None:
    """Return the last block whose output lies over the image.

    Of a network without blocks, the last layer with more than one place; None where there is none.
    """
    blocks = network.trace.of_role("block")
    layouts = {n: layout_of(network, n) for n in blocks or (x.name for x in network.trace)}
    spatial = [n for n, at in layouts.items() if at and (blocks or at.height * at.width > 1)]
    return spatial[-1] if spatial else None


def last_mapped_block(network: ComparedNetwork) -> tuple[str, Layout] | None:
    """Return the last block with at least 4 × 4 places and how it lies over the image.

    Where none has so many places, the last block; None where none lies over the image.
    """
    layouts = {n: layout_of(network, n) for n in network.trace.of_role("block")}
    large = [n for n, at in layouts.items() if at and min(at.height, at.width) >= SMALLEST_GRID]
    name = large[-1] if large else last_block(network)
    layout = layout_of(network, name) if name else None
    return (name, layout) if name and layout else None


def compared_layers(network: ComparedNetwork, most: int = MAX_LAYERS) -> tuple[str, ...]:
    """Return the selected layers; of more than `most`, stem, blocks and head; then evenly."""
    layers = network.layers
    outer = tuple(n for n in layers if network.trace[n].role != "inner")
    if len(layers) > most and len(outer) > 2:  # a network without blocks has little but layers
        layers = outer
    return evenly(layers, most)


def pool_activation(
    value: torch.Tensor, pool: str, network: ComparedNetwork, layer: str
) -> torch.Tensor:
    """Choose what of a layer's output is compared: (n, …) to (n, features).

    Args:
        value: the output for n images.
        pool: `flatten` takes all of it; `gap` the mean over places; `cls` the first prefix
            token; `tokens` all but the prefix tokens. A layer without such a token is flattened.
        network: the model.
        layer: its layer.
    """
    layout = layout_of(network, layer)
    if pool == "gap":
        return mean_over_places(value, network, layer)
    if pool == "cls" and layout and layout.num_prefix_tokens:
        return value[:, 0]
    if pool == "tokens" and layout:
        return value[:, layout.num_prefix_tokens :].flatten(1)
    return value.flatten(1)


def mean_over_places(value: torch.Tensor, network: ComparedNetwork, layer: str) -> torch.Tensor:
    """Return a layer's output averaged over places, (n, channels); prefix tokens are left out.

    Where it is not known how an output lies over the image, three dimensions are taken for
    (n, tokens, channels); more for (n, channels, …) in a CNN, else for (n, windows, …, channels).
    """
    if layout := layout_of(network, layer):
        return places_of(value, layout).mean(dim=1)
    if value.ndim < 3:
        return value
    if network.family == "cnn" and value.ndim > 3:
        return value.flatten(2).mean(dim=2)
    return value.flatten(1, -2).mean(dim=1)


def mean_point(network: ComparedNetwork, layer: str) -> HookPoint:
    """Return the hook point of a layer's mean over places, (n, channels) float32."""

    def take(value: torch.Tensor) -> torch.Tensor:
        return mean_over_places(value.float(), network, layer).clone()

    return HookPoint(layer, taken="mean over places", take=take)


def as_seen(images: NDArray[np.uint8], network: ComparedNetwork) -> NDArray[np.uint8]:
    """Return images as a model sees them: resized and cropped, before normalising."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    scaled = resize_and_crop(pixels, network.model.spec)
    return (scaled * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def name_copies(images: NDArray[np.uint8]) -> list[str]:
    """Return a note where images occur more than once: they make any two layers more alike."""
    copies = len(images) - len({hash(image.tobytes()) for image in images})
    return [f"{copies:,} of {len(images):,} images are copies of others"] if copies else []


def name_sorted(labels: NDArray[np.int64] | None, batch_size: int) -> list[str]:
    """Say where batches hold far fewer classes than batches drawn at random would."""
    if labels is None or len(labels) < SORTED_IMAGES:
        return []
    ends = even_batches(len(labels), batch_size)
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    held = np.mean([len(np.unique(labels[a:b])) for a, b in ends])
    expected = np.mean([(1 - (1 - share) ** (b - a)).sum() for a, b in ends])
    if held > SORTED_SHARE * expected:
        return []
    return [
        f"the images are sorted by class: a batch holds {held:.1f} of {len(share)} classes, where "
        f"{expected:.1f} are expected at random; estimates over batches are biased, shuffle them"
    ]


def choose_images(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` images, drawn at random, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size=most, replace=False))


def evenly(names: Sequence[str], most: int) -> tuple[str, ...]:
    """Return at most `most` names, evenly spread, the first and the last among them.

    >>> evenly("abcdefg", 3)
    ('a', 'd', 'g')
    """
    if len(names) <= most:
        return tuple(names)
    return tuple(names[i] for i in np.linspace(0, len(names) - 1, most).round().astype(int))


def example_input(network: ComparedNetwork) -> torch.Tensor:
    """Return one image of noise as a model takes it: a picture of the study may be blank."""
    size = network.model.spec.image_size
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return model_input(noise, network.model.spec, network.model.module)
