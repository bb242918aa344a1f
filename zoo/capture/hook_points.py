"""Hook points: watching chosen layers of a network while it runs."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from zoo.capture.attention import on_multihead_outputs, record_attention
from zoo.capture.layers import per_image
from zoo.errors import UserError
from zoo.models.preprocess import first_tensor

KINDS = ("input", "output", "attention", "heads")
OnValue = Callable[["HookPoint", torch.Tensor], None]
Found = TypeVar("Found")


@dataclass(frozen=True)
class HookPoint:
    """A place to watch: what goes into a layer, what comes out, or its attention weights.

    Of an `nn.MultiheadAttention`, also what its heads give, before their projection.

    If only something of the tensor is wanted, `take` gives it: a function of the tensor and the
    network alone, which `taken` names, so that it is computed once for all who want it, and may be
    kept. It must give a tensor of its own, which no later operation of the network changes.
    """

    layer: str
    kind: str = "output"
    taken: str = ""
    take: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """What tells it from all other hook points of a network, as text."""
        return f"{self.layer} {self.kind} {self.taken}"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a hook point of kind {KINDS}, got {self.kind!r}")


@contextmanager
def observe(
    module: nn.Module, hook_points: Iterable[HookPoint], on_value: OnValue
) -> Iterator[None]:
    """Call `on_value(hook_point, tensor)` whenever a watched layer runs.

    The tensor is what the hook point's `take` gives. Without that it is the network's own: the
    callback sees it before any later in-place operation and must take what it needs at once, or
    copy it. Windows of an image are put together (`per_image`), but for those of attention weights.
    All hooks are gone when the context ends.

    Raises:
        UserError: a hook point on a module that the network does not have.
    """
    modules = dict(module.named_modules())
    wanted: dict[tuple[str, str], dict[int, list[HookPoint]]] = {}
    for hook_point in dict.fromkeys(hook_points):
        path, _, call = hook_point.layer.partition("#")
        if path not in modules:
            raise UserError(f"no layer {path!r} in {type(module).__name__}")
        calls_of = wanted.setdefault((path, hook_point.kind), {})
        calls_of.setdefault(int(call or 1), []).append(hook_point)
    calls: Counter[tuple[str, str]] = Counter()
    images: list[int] = []

    def begin(network: nn.Module, args: Any) -> None:
        # A network may be run several times in one context: calls are counted in each run.
        calls.clear()
        given = first_tensor(args)
        images[:] = [] if given is None else [len(given)]

    def report(key: tuple[str, str], given: Any) -> None:
        """Take what a part was given, what it gave, or its weights: the first tensor of these."""
        tensor = first_tensor(given)
        if tensor is None:
            return
        calls[key] += 1
        if hook_points := wanted[key].get(calls[key]):
            if images and key[1] != "attention":
                tensor = per_image(tensor, images[0])
            for hook_point in hook_points:
                on_value(hook_point, hook_point.take(tensor) if hook_point.take else tensor)

    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(begin).remove)
        for path, kind in wanted:
            part, tell = modules[path], partial(report, (path, kind))
            if kind == "attention":
                stack.enter_context(record_attention(part, tell))
                continue
            if kind == "heads":
                hook = on_multihead_outputs(part, tell)
            elif kind == "input":
                hook = part.register_forward_pre_hook(_last_to(tell), prepend=True)
            else:
                hook = part.register_forward_hook(_last_to(tell))
            stack.callback(hook.remove)
        yield


def _last_to(tell: Callable[[Any], None]) -> Any:
    """Return a hook that hands on its last argument: what goes into a part, or what comes out."""
    return lambda *given: tell(given[-1])


class OfLast(Generic[Found]):
    """A function of a tensor that remembers what it found for the last one.

    Many layers hand on the tensor they were given: dropout at rest and identities, a container
    after its last part (of all modules of a timm ViT, almost half), and the next block's stream is
    what the block before gave. The tensor is not kept alive.
    """

    def __init__(self, function: Callable[..., Found]) -> None:
        self.function = function
        self.tensor: Callable[[], torch.Tensor | None] = lambda: None
        self.given: tuple[Any, ...] = ()
        self.found: Found

    def __call__(self, value: torch.Tensor, *more: Any) -> Found:
        """Return what the function gives; `more` are its other arguments, compared by value."""
        if value.is_inference():  # does not count the operations that work on it in place
            return self.function(value, *more)
        given = (value._version, *more)
        if self.tensor() is not value or self.given != given:
            self.found = self.function(value, *more)
            self.tensor, self.given = weakref.ref(value), given
        return self.found
