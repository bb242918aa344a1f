"""Which layers a network has: names in execution order, and which of them to look at."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.capture.attending import Attention, find_attention
from zoo.capture.attention import is_attention
from zoo.config import check_layers
from zoo.errors import UserError
from zoo.models.build import network_errors
from zoo.models.modes import eval_mode
from zoo.models.preprocess import first_tensor, logits_of

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
Call = tuple[str, tuple[int, ...]]  # a layer's name and its output's shape


@dataclass(frozen=True)
class Layer:
    """A module's call: `name` is its path (`#2` is added for its second call, and so on).

    `role` is `stem`, `block`, `head` or `inner`; `shape` is its output's for one image.
    `attends` is the attention that is computed in it, or None. Its places are not `in_rows` where
    it works on windows of an image, one after the other.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    attends: Attention | None = None
    in_rows: bool = True

    @property
    def attention(self) -> tuple[int, int, int, int] | None:
        """Shape (windows, heads, queries, keys) of its attention's weights, if they can be read.

        Attention over all tokens has one window.
        """
        return self.attends.shape if self.attends and not self.attends.unread else None


@dataclass(frozen=True)
class Trace:
    """All layers of a network in the order in which their outputs are ready.

    `without_output` names the modules that never gave a tensor of the images: those that did not
    run, and those whose output is the same for any images, such as a table of positions.
    `not_batch_first` names those blocks among them that ran: their outputs do not have the images
    on the first axis (a transformer may put tokens first). `output` is the shape of what the
    network gives for one image. It is `recurrent` if its blocks hold recurrent layers.
    """

    layers: tuple[Layer, ...]
    without_output: tuple[str, ...]
    not_batch_first: tuple[str, ...] = ()
    output: tuple[int, ...] = ()
    recurrent: bool = False

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def of_role(self, role: str) -> tuple[str, ...]:
        """Return the names of the layers with a role, in order."""
        return tuple(layer.name for layer in self.layers if layer.role == role)

    @property
    def attention(self) -> tuple[str, ...]:
        """Names of the layers whose attention's weights can be read, in order."""
        return tuple(layer.name for layer in self.layers if layer.attention)

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)


def trace(module: nn.Module, example: torch.Tensor, blocks: tuple[str, ...] | None = None) -> Trace:
    """Run a network on one image and on two, and list its layers.

    Args:
        module: the network.
        example: an input (n, 3, height, width), of which the first image is used.
        blocks: paths of its blocks; those of `find_blocks` by default.

    Raises:
        UserError: where the network cannot run on such an input.
    """
    blocks = find_blocks(module) if blocks is None else blocks
    finished: list[Call] = []
    twice: list[Call] = []
    before_blocks: list[int] = []

    def begin_block(*_: Any) -> None:
        before_blocks.append(len(finished))

    with ExitStack() as stack:
        for path, part in watchable_parts(module):
            if path in blocks:
                stack.callback(part.register_forward_pre_hook(begin_block).remove)
        output = _list_calls(module, example[:1], finished)
    _list_calls(module, torch.cat([example[:1]] * 2), twice)
    of_two = dict(twice)
    shapes = {name: _shape_of_one(shape, of_two.get(name, ())) for name, shape in finished}
    stem = [name for name, _ in finished[: before_blocks[0]]] if before_blocks else []
    roles = _roles([n for n, shape in shapes.items() if shape is not None], blocks, stem)
    with eval_mode(module), torch.inference_mode():
        attending = find_attention(watchable_parts(module), module, example[:1])
    attends = {
        f"{path}#{call}" if call > 1 else path: attention
        for path, calls in attending.items()
        for call, attention in enumerate(calls, 1)
    }
    lengths = dict(finished)
    layers = tuple(
        Layer(name, roles[name], shape, attends.get(name), in_rows=lengths[name][0] == 1)
        for name, shape in shapes.items()
        if shape is not None
    )
    fired = {layer.name.partition("#")[0] for layer in layers}
    without_output = tuple(p for p, _ in module.named_modules() if p and p not in fired)
    ran = {name for name, _ in finished}
    not_batch_first = tuple(b for b in blocks if b in without_output and b in ran)
    inside = [part for b in blocks or ("",) for part in module.get_submodule(b).modules()]
    recurrent = any(isinstance(part, nn.RNNBase) for part in inside)
    return Trace(layers, without_output, not_batch_first, tuple(output.shape[1:]), recurrent)


def watchable_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a network with their paths, but for TorchScript's, which take no hooks."""
    for path, part in module.named_modules():
        if path and not isinstance(part, torch.jit.ScriptModule):
            yield path, part


def _list_calls(module: nn.Module, example: torch.Tensor, finished: list[Call]) -> torch.Tensor:
    """Run a network, note the calls of its parts that give a tensor, and return its output."""
    calls: Counter[str] = Counter()

    def note(path: str, part: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            calls[path] += 1
            suffix = f"#{calls[path]}" if calls[path] > 1 else ""
            finished.append((path + suffix, tuple(tensor.shape)))

    refused = f"{type(module).__name__} cannot run on an input of {tuple(example.shape)}"
    with ExitStack() as stack, eval_mode(module), torch.inference_mode():
        for path, part in watchable_parts(module):
            stack.callback(part.register_forward_hook(partial(note, path)).remove)
        with network_errors(refused):
            return logits_of(module(example))


def _shape_of_one(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return an output's shape for one image, from its shapes for one image and for two.

    None where it is not the images' own, such as a table of relative positions.
    """
    if not one or not two or two[0] != 2 * one[0] or two[1:] != one[1:]:
        return None
    return tuple(per_image(torch.empty(one, device="meta"), 1).shape[1:])


def per_image(value: torch.Tensor, images: int) -> torch.Tensor:
    """Return a tensor as (images, …): where attention splits images into windows, these follow.

    >>> per_image(torch.zeros(6, 4, 8), 2).shape  # three windows of four tokens an image
    torch.Size([2, 12, 8])
    """
    if len(value) == images or len(value) % images:
        return value
    return value.reshape(images, -1, *value.shape[2:])


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
    pattern = check_layers(selection)
    chosen = tuple(name for name in names if re.search(pattern, name))
    if not chosen:
        shown = ", ".join([*names[:3], "…", *names[-3:]])
        near = difflib.get_close_matches(selection, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"layers: {selection!r} matches none of {len(names)} layers ({shown}){hint}"
        )
    return chosen


def find_blocks(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of a network's repeated blocks: residual, transformer or mixer blocks.

    A block is an element of a container, holds at least two layers with weight matrices, is of
    a class that occurs again, and holds no other block. A module whose children are all of one
    class is a container too, as the stages of a RegNet are. An element that holds an attention
    layer is a block without another of its class too, beside other blocks, or where there are none.
    """
    found: list[tuple[str, nn.Module]] = []
    # A stage of one block is a stage as the others are; a wrapper never holds more than one part.
    rows = {type(part) for part in module.modules() if _holds_one_class(part, least=2)}
    for path, part in [("", module), *watchable_parts(module)]:
        if isinstance(part, CONTAINERS) or (type(part) in rows and _holds_one_class(part)):
            for name, child in part.named_children():
                if not isinstance(child, CONTAINERS) and weighted_layers(child) >= 2:
                    found.append((f"{path}.{name}" if path else name, child))
    # A block whose skips were removed is still a block of its row.
    kinds = [getattr(child, "block_type", type(child)) for _, child in found]
    repeated = Counter(kinds)
    candidates = [path for (path, _), kind in zip(found, kinds, strict=True) if repeated[kind] >= 2]
    beside = {path.rpartition(".")[0] for path in candidates}
    candidates = [
        path
        for path, part in found
        if path in candidates
        or (
            (not beside or path.rpartition(".")[0] in beside)
            and _attends_in_list(module, path, part)
        )
    ]
    return tuple(p for p in candidates if not any(q.startswith(f"{p}.") for q in candidates))


def _holds_one_class(module: nn.Module, least: int = 1) -> bool:
    children = [type(child) for child in module.children()]
    return len(children) >= least and len(set(children)) == 1


def _attends_in_list(module: nn.Module, path: str, part: nn.Module) -> bool:
    """Say whether an element of a list that lies in a network has an attention layer inside."""
    parent = path.rpartition(".")[0]
    listed = bool(parent) and isinstance(module.get_submodule(parent), CONTAINERS)
    attends = any(is_attention(inner) for inner in part.modules() if inner is not part)
    return listed and attends and not is_attention(part)


def weighted_layers(module: nn.Module) -> int:
    """Count the layers with a weight matrix; one with several, such as a gain, is one layer."""
    return sum(_has_matrix(part) for part in module.modules())


def _has_matrix(part: nn.Module) -> bool:
    # The weight of a quantised layer is no parameter but a method.
    quantised = callable(getattr(part, "weight", None))
    return quantised or any(p.ndim >= 2 for p in part.parameters(recurse=False))


def _roles(names: list[str], blocks: tuple[str, ...], before_blocks: list[str]) -> dict[str, str]:
    roles = {name: "block" if name in blocks else "inner" for name in names}
    stem = [name for name in before_blocks if name in roles]
    if stem:
        roles[stem[-1]] = "stem"
    if names:
        roles[names[-1]] = "head"
    return roles
