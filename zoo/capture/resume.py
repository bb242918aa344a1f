"""A network that goes on from one of its blocks: those before it give what they gave before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.capture.layers import Trace
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of

# The outputs of all blocks are held at once: few large images at a time.
PIXELS_A_PASS = 16 * 224 * 224


def passes(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Divide a network's input (n, 3, height, width) into what is recorded at a time."""
    return pixels.split(max(1, PIXELS_A_PASS // pixels[0, 0].numel()))


def resumable_blocks(trace: Trace) -> tuple[str, ...]:
    """Return the blocks that run once in a network's pass, in order."""
    names = {layer.name for layer in trace}
    return tuple(b for b in trace.of_role("block") if "#" not in b and f"{b}#2" not in names)


def record_blocks(
    module: nn.Module, blocks: Iterable[str], pixels: torch.Tensor
) -> tuple[dict[str, Any], torch.Tensor]:
    """Run a network on images (n, 3, height, width); return what its blocks gave, and its logits.

    What a block gave is as `resumed` takes it; one that gave no tensor is left out.
    """
    found: dict[str, Any] = {}

    def keep(block: str, part: nn.Module, args: Any, output: Any) -> None:
        if (copy := _copied(output)) is not None:
            found[block] = copy

    with ExitStack() as stack, eval_mode(module), torch.inference_mode():
        for block in blocks:
            hook = module.get_submodule(block).register_forward_hook(partial(keep, block))
            stack.callback(hook.remove)
        # A copy: a network may work in place on its input.
        return found, logits_of(module(pixels.clone()))


@contextmanager
def resumed(module: nn.Module, outputs: Mapping[str, Any]) -> Iterator[None]:
    """Let blocks give these outputs, without running, for as long as the context lasts.

    Args:
        module: the network; its weights are not touched.
        outputs: what each block gives: a tensor, or a tuple that begins with one.
    """
    with ExitStack() as stack:
        for block, output in outputs.items():
            part = module.get_submodule(block)
            stack.callback(_restore, part, vars(part).get("forward"))
            part.forward = partial(_give, output)
        yield


def with_tensor(output: Any, tensor: torch.Tensor) -> Any:
    """Return a block's output, as `record_blocks` keeps it, with another tensor in its place."""
    first = output if isinstance(output, torch.Tensor) else output[0]
    like = tensor.reshape(first.shape).to(first)
    return like if isinstance(output, torch.Tensor) else (like, *output[1:])


def _copied(output: Any) -> Any:
    """Return an output that no later block can work in place on; None without a tensor first."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    if isinstance(output, tuple | list) and output and isinstance(output[0], torch.Tensor):
        return (output[0].clone(), *output[1:])
    return None


def _give(output: Any, /, *args: Any, **kwargs: Any) -> Any:
    return _copied(output)


def _restore(part: nn.Module, forward: Any) -> None:
    if forward is None:
        del part.forward
    else:
        part.forward = forward
