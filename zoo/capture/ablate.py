"""A network without some of its residual branches or skips, for as long as a context lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from zoo.capture.branches import Branch
from zoo.capture.hook_points import HookPoint

PARTS = ("branch", "skip")


@contextmanager
def ablated(module: nn.Module, branches: Iterable[Branch], part: str) -> Iterator[None]:
    """Zero one part of residual sums for as long as the context lasts.

    Args:
        module: the network; its weights are not touched.
        branches: the sums to change, usually all of one block.
        part: `branch` leaves z of each sum z + f(z), `skip` leaves f(z). A skip that is the
            block's own stream is taken away from the branch before the sum, so f(z) comes out
            up to the rounding of z + (f(z) − z).

    Raises:
        ValueError: another part.
    """
    if part not in PARTS:
        raise ValueError(f"expected a part in {PARTS}, got {part!r}")
    calls: Counter[Any] = Counter()  # of each hook, in one run of the network
    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(lambda *_: calls.clear()).remove)

        def on_call(at: HookPoint, change: Callable[[Any], Any]) -> None:
            """Let a function change what goes into a layer, or comes out of it, at one call."""
            path, _, number = at.layer.partition("#")

            def hook(*given: Any) -> Any:
                calls[hook] += 1
                return change(given[-1]) if calls[hook] == int(number or 1) else None

            layer, of_input = module.get_submodule(path), at.kind == "input"
            register = layer.register_forward_pre_hook if of_input else layer.register_forward_hook
            stack.callback(register(hook).remove)

        def take_away_stream(branch: Branch) -> None:
            kept: list[torch.Tensor] = []
            on_call(branch.skip, lambda args: kept.append(args[0]))
            on_call(branch.output, _of_first(lambda f: f - kept.pop().reshape(f.shape)))

        for branch in branches:
            if part == "skip" and branch.skip.kind == "input":
                take_away_stream(branch)
            else:
                zeroed = branch.skip if part == "skip" else branch.output
                on_call(zeroed, _of_first(torch.zeros_like))
        yield


def _of_first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    """Return a change of an output's first tensor: what hook points see, and sums were found with.

    The rest of a tuple stays as it is.
    """
    return lambda output: (
        change(output) if isinstance(output, torch.Tensor) else (change(output[0]), *output[1:])
    )
