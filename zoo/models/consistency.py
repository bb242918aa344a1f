"""Whether a network's answer for an image rests on the image alone, and on weights that stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of, model_input
from zoo.models.spec import ModelSpec

CHANCE, OTHERS = "chance", "others"
IMAGES = 4
DRAWS = 16  # more passes over them, where a rare draw (a branch dropped) may not be seen in one
SMALL = 1e-3  # what changes no number that is reported


def depends_on(module: nn.Module, spec: ModelSpec) -> str:
    """Say what else than the image a network's answer depends on; empty for nothing.

    It answers four images of noise twice, or more often if it draws random numbers, and once with
    every other one of them black. Its buffers and torch's random numbers are afterwards as they
    were.

    Args:
        module: the network.
        spec: gives the size of its images.

    Returns:
        `chance` where answers for the same batch differ, `others` where the images that stayed are
        answered differently beside black ones.
    """
    side = spec.image_size
    noise = torch.rand(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
    images = model_input(noise, spec, module)
    others = images.clone()
    others[::2] = 0
    devices = [images.device] if images.is_cuda else []

    def answers(batch: torch.Tensor) -> torch.Tensor:
        return logits_of(module(batch.clone())).double()

    def random_state() -> torch.Tensor:
        return torch.cuda.get_rng_state(images.device) if images.is_cuda else torch.get_rng_state()

    with torch.inference_mode(), eval_mode(module), own_buffers([module]):
        with torch.random.fork_rng(devices):
            before, first = random_state(), answers(images)
            draws = not torch.equal(before, random_state())
            again = [answers(images) for _ in range(DRAWS if draws else 1)]
        with torch.random.fork_rng(devices):  # what the first drew at random is drawn again
            beside = answers(others)
    tolerance = _tolerance(torch.cat([first, beside]), images)
    if not all(_are_close(first, other, tolerance) for other in again):
        return CHANCE
    return "" if _are_close(first[1::2], beside[1::2], tolerance) else OTHERS


def _tolerance(outputs: torch.Tensor, images: torch.Tensor) -> float:
    """Return the least difference that counts: a share of the outputs' range over the images.

    Batches of one shape go through the same operations, so that outputs do not even differ by
    rounding, but for a GPU's order of sums. A network may give almost the same for all images.
    """
    if not outputs.numel():
        return 0.0
    outputs = outputs.nan_to_num(posinf=0, neginf=0)
    spread, largest = (outputs.amax(0) - outputs.amin(0)).max(), outputs.abs().max()
    rounding = SMALL if images.is_cuda else 2 * torch.finfo(images.dtype).eps
    return float(SMALL * spread + rounding * largest)


def _are_close(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    same = one.shape == other.shape
    return same and torch.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)


@contextmanager
def own_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Run networks on copies of their buffers, which some change in eval mode too.

    A moving mean that goes on moving would leave other weights than those that were given.
    """
    kept = [
        (part, name, buffer)
        for part in dict.fromkeys(part for module in modules for part in module.modules())
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    copies = {id(buffer): buffer.clone() for *_, buffer in kept}  # one where two parts share it
    try:
        for part, name, buffer in kept:
            part._buffers[name] = copies[id(buffer)]
        yield
    finally:
        for part, name, buffer in kept:
            part._buffers[name] = buffer
