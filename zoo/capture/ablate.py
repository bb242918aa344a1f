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
    calls: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(lambda *_: calls.clear()).remove)
        for branch in branches:
            if part == "branch":
                changes = [_on_output(module, branch.output, calls, torch.zeros_like)]
            elif branch.skip.kind == "output":
                changes = [_on_output(module, branch.skip, calls, torch.zeros_like)]
            else:
                changes = _take_away_stream(module, branch, calls)
            for change in changes:
                stack.callback(change.remove)
        yield


def _take_away_stream(module: nn.Module, branch: Branch, calls: Counter) -> list[Any]:
    kept: list[torch.Tensor] = []
    path, number = _path_and_call(branch.skip)
    key = (f"{path} of {branch.output.layer}", "input")

    def keep(part: nn.Module, args: Any) -> None:
        calls[key] += 1
        if calls[key] == number:
            kept[:] = [args[0]]

    before = module.get_submodule(path).register_forward_pre_hook(keep)
    return [
        before,
        _on_output(module, branch.output, calls, lambda f: f - kept.pop().reshape(f.shape)),
    ]


def _on_output(
    module: nn.Module,
    hook_point: HookPoint,
    calls: Counter,
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Any:
    path, number = _path_and_call(hook_point)
    key = (hook_point.layer, "output")

    def hook(part: nn.Module, args: Any, output: Any) -> Any:
        calls[key] += 1
        if calls[key] != number:
            return None
        if isinstance(output, torch.Tensor):
            return change(output)
        # A tuple: its first tensor is what hook_points see, and so what the sum was found with.
        return (change(output[0]), *output[1:])

    return module.get_submodule(path).register_forward_hook(hook)


def _path_and_call(hook_point: HookPoint) -> tuple[str, int]:
    path, _, call = hook_point.layer.partition("#")
    return path, int(call or 1)
