"""Residual sums: where a block adds a branch to its skip.

Which tensors are added is not guessed from names: a small forward pass is watched, and a branch
counts only where skip plus branch is found again, as the input of a later part of the block or
as the block's output. So layer scale, squeeze-and-excitation or a projected skip come out right,
and a block that adds nothing has no branch.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zoo.capture.hook_points import HookPoint, observe
from zoo.capture.layers import CONTAINERS, Trace, watchable_parts, weighted_layers
from zoo.models.modes import eval_mode

# Skip and branch are added in float32: their sum is found again up to rounding.
TOLERANCE = 1e-5

Event = tuple[HookPoint, torch.Tensor]


@dataclass(frozen=True)
class Branch:
    """A residual sum z + f(z) inside a block.

    `kind` is `attention`, `mlp` (or the part's own name where a block has several, such as
    `mlp_tokens`) or `residual` for the only branch of a block without attention. `skip` is where
    z is seen as it is added (after a projection, if there is one); `output` is where f(z) is
    seen as it is added (after layer scale and the like).
    """

    block: str
    kind: str
    skip: HookPoint
    output: HookPoint


def find_branches(module: nn.Module, layers: Trace, example: torch.Tensor) -> tuple[Branch, ...]:
    """Find the residual sums of a network's blocks, in execution order.

    Args:
        module: the network.
        layers: its trace.
        example: an input (n, 3, height, width); one image that is not constant is enough. It
            stays as it is, also where the network works in place on its input.

    Returns:
        The branches; a block in which no sum was found has none.
    """
    seen: dict[str, list[Event]] = {block: [] for block in layers.of_role("block")}
    parts = [layer.name for layer in layers if layer.name.rpartition(".")[0] in seen]
    hook_points = [
        HookPoint(name, kind) for name in (*seen, *parts) for kind in ("input", "output")
    ]
    found: list[Branch] = []

    def on_value(hook_point: HookPoint, value: torch.Tensor) -> None:
        block = (
            hook_point.layer if hook_point.layer in seen else hook_point.layer.rpartition(".")[0]
        )
        if block not in seen:
            return
        seen[block].append((hook_point, value.detach().clone()))
        if hook_point == HookPoint(block, "output"):
            found.extend(_branches_of(module, layers, block, seen.pop(block)))

    with torch.inference_mode(), eval_mode(module), observe(module, hook_points, on_value):
        module(example.clone())
    return tuple(found)


def residual_blocks(module: nn.Module, layers: Trace, example: torch.Tensor) -> tuple[str, ...]:
    """Return the parts of a network in which a residual sum is found, wherever they stand.

    For a network whose blocks are attributes of their own (`layer1`, `layer2`, …) instead of a
    list's elements. A block holds at least two layers with weight matrices, is of a class that
    occurs again, and holds no other block.

    Args:
        module: the network.
        layers: its trace.
        example: as in `find_branches`.
    """
    parts = {
        path: type(part)
        for path, part in watchable_parts(module)
        if not isinstance(part, CONTAINERS) and weighted_layers(part) >= 2
    }
    repeated = Counter(parts.values())
    named = tuple(
        dataclasses.replace(
            x, role="block" if x.name in parts and repeated[parts[x.name]] >= 2 else "inner"
        )
        for x in layers
    )
    found = find_branches(module, dataclasses.replace(layers, layers=named), example)
    blocks = dict.fromkeys(branch.block for branch in found)
    return tuple(b for b in blocks if not any(other.startswith(f"{b}.") for other in blocks))


def notes_on_gaps(module: nn.Module, layers: Trace, branches: Sequence[Branch]) -> list[str]:
    """Name the blocks in which no residual sum was found, and those in which fewer were.

    A network may mix blocks: a convolutional one has one sum, and a transformer's has two. So a
    block is compared only with those of its class that attend as it does.

    Args:
        module: the network.
        layers: its trace, of which the blocks are looked at.
        branches: what `find_branches` gave.
    """
    sums = Counter(branch.block for branch in branches)
    attending = [layer.name for layer in layers if layer.attends]
    most: dict[tuple[object, bool], int] = {}
    likes = {}
    for block in layers.of_role("block"):
        part = module.get_submodule(block)
        attends = any(f"{name}.".startswith(f"{block}.") for name in attending)
        likes[block] = like = getattr(part, "block_type", type(part)), attends
        most[like] = max(most.get(like, 0), sums[block])
    none = [block for block in likes if not sums[block]]
    fewer = [
        f"{block} ({sums[block]} instead of {most[like]})"
        for block, like in likes.items()
        if 0 < sums[block] < most[like]
    ]
    notes = []
    if none:
        notes.append(
            f"found no residual sum in {', '.join(none)}: nothing is added there, or not as the "
            "block's parts take and give it"
        )
    if fewer:
        notes.append(f"found fewer residual sums than in blocks like it in {', '.join(fewer)}")
    return notes


def _branches_of(
    module: nn.Module, layers: Trace, block: str, events: list[Event]
) -> Iterator[Branch]:
    """Yield a block's branches from all that went in and out of it and its parts, in order."""
    sums: list[tuple[HookPoint, HookPoint, list[str]]] = []
    stream = 0
    for end in range(1, len(events)):
        last = end == len(events) - 1
        if not last and events[end][0].kind != "input":
            continue
        match = _match(events, stream, end, last)
        if match:
            between = [
                hook_point.layer.partition("#")[0] for hook_point, _ in events[stream + 1 : end]
            ]
            parts = [name for name in dict.fromkeys(between) if name != block]
            sums.append((events[match[0]][0], events[match[1]][0], parts))
            stream = end
    kinds = [_kind(module, layers, parts, len(sums)) for *_, parts in sums]
    if len(kinds) == 2 and kinds.count("attention") == 1:
        # A transformer's block, whatever its parts are called.
        kinds = [kind if kind == "attention" else "mlp" for kind in kinds]
    for (skip, output, _), kind in zip(sums, kinds, strict=True):
        yield Branch(block, kind, skip, output)


def _match(events: list[Event], stream: int, end: int, last: bool) -> tuple[int, int] | None:
    """Return the positions of z and f(z) whose sum is the tensor at `end`, or None."""
    total = events[end][1]
    if not total.any():  # every pair of zeros adds up to it: nothing can be determined
        return None
    outputs = [i for i in range(stream + 1, end) if events[i][0].kind == "output"]
    # Where the branch is a single part, both it and the projection take the stream: networks
    # project last.
    projections = [i for i in reversed(outputs) if _takes_stream(events, i, stream)]
    for z in (stream, *projections):
        for f in reversed(outputs):
            if f == z or not events[f][1].numel() == events[z][1].numel() == total.numel():
                continue
            added = events[z][1].flatten() + events[f][1].flatten()
            # A block may end on an activation that is a function, not a module.
            if _same(added, total) or (last and _same(added.relu(), total)):
                return z, f
    return None


def _takes_stream(events: list[Event], output: int, stream: int) -> bool:
    """Say whether a part works on the block's stream, or on what the first part made of it."""
    hook_point = HookPoint(events[output][0].layer, "input")
    taken = next((value for t, value in reversed(events[:output]) if t == hook_point), None)
    first = next((value for t, value in events[stream + 1 :] if t.kind == "output"), None)
    sources = (events[stream][1], first)
    return taken is not None and any(s is not None and _same(taken.flatten(), s) for s in sources)


def _same(values: torch.Tensor, other: torch.Tensor) -> bool:
    if values.numel() != other.numel():
        return False
    other = other.flatten()
    return bool((values - other).abs().max() <= TOLERANCE * other.abs().max())


def _kind(module: nn.Module, layers: Trace, parts: Sequence[str], sums: int) -> str:
    attending = [layer.name for layer in layers if layer.attends]
    if any(a == p or a.startswith((f"{p}.", f"{p}#")) for a in attending for p in parts):
        return "attention"
    if sums == 1:
        return "residual"
    heaviest = max(
        parts, key=lambda path: sum(p.numel() for p in module.get_submodule(path).parameters())
    )
    return heaviest.rpartition(".")[2]
