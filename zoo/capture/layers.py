"""Which layers a network has: names in execution order, and which of them to look at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo.capture.attention import AttentionRecorder, is_attention
from zoo.errors import UserError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Layer:
    """A module's call: `name` is its path (`#2` is added for its second call, and so on).

    `role` is `stem`, `block`, `head` or `inner`; `shape` is its output's for one image.
    `attention` is the shape (windows, heads, queries, keys) of the softmax attention that is
    computed in it for one image, or None; attention over all tokens has one window.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    attention: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Trace:
    """All layers of a network in the order in which their outputs are ready.

    `silent` names the modules that never produced a tensor.
    """

    layers: tuple[Layer, ...]
    silent: tuple[str, ...]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def of_role(self, role: str) -> tuple[str, ...]:
        """Return the names of the layers with a role, in order."""
        return tuple(layer.name for layer in self.layers if layer.role == role)

    @property
    def attention(self) -> tuple[str, ...]:
        """Names of the layers that compute softmax attention, in order."""
        return tuple(layer.name for layer in self.layers if layer.attention)

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every submodule into eval mode, and each back into its own mode at the end."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def trace(module: nn.Module, example: torch.Tensor) -> Trace:
    """Run a network once and list its layers.

    Args:
        module: the network.
        example: an input (n, 3, height, width); one image is enough.

    Raises:
        UserError: where the network cannot run on such an input.
    """
    paths = dict(module.named_modules())
    finished: list[tuple[str, tuple[int, ...]]] = []
    attending: dict[str, tuple[int, int, int, int]] = {}
    stem_end: list[int] = []
    blocks = find_blocks(module)
    calls: Counter[str] = Counter()
    with ExitStack() as stack, evaluating(module), torch.inference_mode():
        for path, part in paths.items():
            if path in blocks:
                before = part.register_forward_pre_hook(
                    lambda *_: stem_end.append(len(finished)) if not stem_end else None
                )
                stack.callback(before.remove)
            after = part.register_forward_hook(_noting(path, finished, calls))
            stack.callback(after.remove)
            if path and is_attention(part):
                recorder = AttentionRecorder(part, _adding(path, attending, len(example)))
                stack.enter_context(recorder)
        try:
            module(example)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise UserError(
                f"{type(module).__name__} cannot run on an input of {tuple(example.shape)}: {error}"
            ) from None
    named = [(name, shape) for name, shape in finished if name]
    roles = _roles(named, blocks, stem_end[0] if stem_end else 0)
    fired = {name.split("#")[0] for name, _ in named}
    # Where attention modules are nested, the innermost one is the one that attends.
    inner = {
        p: a for p, a in attending.items() if not any(q.startswith(f"{p}.") for q in attending)
    }
    layers = tuple(Layer(n, roles[n], shape, inner.get(n)) for n, shape in named)
    return Trace(layers, tuple(p for p in paths if p and p not in fired))


def select_layers(layers: Trace, selection: str) -> tuple[str, ...]:
    """Choose layers, in execution order.

    Args:
        layers: what `trace` gave.
        selection: `blocks` (stem, every block, head), `all` (every module with an output), or
            a regular expression that is searched for in the names.

    Raises:
        UserError: the selection is no regular expression or matches nothing.
    """
    names = [layer.name for layer in layers]
    if selection == "all":
        return tuple(names)
    if selection == "blocks":
        chosen = tuple(layer.name for layer in layers if layer.role != "inner")
        # A network without repeated blocks is shown by all its layers.
        return chosen if layers.of_role("block") else tuple(names)
    try:
        pattern = re.compile(selection)
    except re.error as error:
        raise UserError(
            f"layers: expected 'blocks', 'all' or a regular expression, got {selection!r}: {error}"
        ) from None
    chosen = tuple(name for name in names if pattern.search(name))
    if not chosen:
        shown = ", ".join([*names[:3], "…", *names[-3:]])
        raise UserError(f"layers: {selection!r} matches none of {len(names)} layers ({shown})")
    return chosen


def find_blocks(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of a network's repeated blocks: residual, transformer or mixer blocks.

    A block is an element of a container, holds at least two layers with weight matrices, is of
    a class that occurs again, and holds no other block.
    """
    found: list[tuple[str, nn.Module]] = []
    for path, part in module.named_modules():
        if isinstance(part, CONTAINERS):
            for name, child in part.named_children():
                if not isinstance(child, CONTAINERS) and _weight_matrices(child) >= 2:
                    found.append((f"{path}.{name}" if path else name, child))
    # A block whose skips were removed is still a block of its row.
    kinds = [getattr(child, "block_type", type(child)) for _, child in found]
    repeated = Counter(kinds)
    candidates = [path for (path, _), kind in zip(found, kinds, strict=True) if repeated[kind] >= 2]
    return tuple(p for p in candidates if not any(q.startswith(f"{p}.") for q in candidates))


def _weight_matrices(module: nn.Module) -> int:
    return sum(p.ndim >= 2 for p in module.parameters())


def _noting(path: str, finished: list, calls: Counter[str]) -> Any:
    def hook(part: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            calls[path] += 1
            suffix = f"#{calls[path]}" if calls[path] > 1 else ""
            finished.append((path + suffix, tuple(tensor.shape[1:])))

    return hook


def _adding(path: str, attending: dict, images: int) -> Any:
    def note(weights: torch.Tensor) -> None:
        heads, queries, keys = weights.shape[-3:]
        attending[path] = (weights[..., 0, 0, 0].numel() // images, heads, queries, keys)

    return note


def first_tensor(output: Any) -> torch.Tensor | None:
    """Return a module's output tensor; of several, the first; None where there is none."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple | list):
        return next((t for t in map(first_tensor, output) if t is not None), None)
    if isinstance(output, dict):
        return first_tensor(list(output.values()))
    return None


def _roles(
    named: list[tuple[str, tuple[int, ...]]], blocks: tuple[str, ...], stem_end: int
) -> dict[str, str]:
    roles = {name: "inner" for name, _ in named}
    roles |= {name: "block" for name, _ in named if name in blocks}
    if blocks and stem_end:
        roles[named[stem_end - 1][0]] = "stem"
    if named:
        roles[named[-1][0]] = "head"
    return roles
