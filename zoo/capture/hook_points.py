"""Hook points: watching chosen layers of a network while it runs."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from zoo.capture.attention import AttentionRecorder, on_multihead_outputs
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
    """

    layer: str
    kind: str = "output"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a hook point of kind {KINDS}, got {self.kind!r}")


@contextmanager
def observe(
    module: nn.Module, hook_points: Iterable[HookPoint], on_value: OnValue
) -> Iterator[None]:
    """Call `on_value(hook_point, tensor)` whenever a watched layer runs.

    The tensor is the network's own: the callback sees it before any later in-place operation
    and must take what it needs at once, or copy it. Windows of an image are put together
    (`per_image`), but for those of attention weights. All hooks are gone when the context ends.

    Raises:
        UserError: a hook point on a module that the network does not have.
    """
    modules = dict(module.named_modules())
    wanted: dict[tuple[str, str], dict[int, HookPoint]] = {}
    for hook_point in dict.fromkeys(hook_points):
        path, _, call = hook_point.layer.partition("#")
        if path not in modules:
            raise UserError(f"no layer {path!r} in {type(module).__name__}")
        wanted.setdefault((path, hook_point.kind), {})[int(call or 1)] = hook_point
    calls: Counter[tuple[str, str]] = Counter()
    images: list[int] = []

    def begin(network: nn.Module, args: Any) -> None:
        # A network may be run several times in one context: calls are counted in each run.
        calls.clear()
        given = first_tensor(args)
        images[:] = [] if given is None else [len(given)]

    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(begin).remove)
        for (path, kind), by_call in wanted.items():
            report = _reporter((path, kind), by_call, calls, images, on_value)
            part = modules[path]
            if kind == "attention":
                stack.enter_context(AttentionRecorder(part, report))
            elif kind == "heads":
                stack.callback(on_multihead_outputs(part, report).remove)
            elif kind == "input":
                hook = part.register_forward_pre_hook(_of_input(report), prepend=True)
                stack.callback(hook.remove)
            else:
                stack.callback(part.register_forward_hook(_of_output(report)).remove)
        yield


def _reporter(
    key: tuple[str, str],
    by_call: dict[int, HookPoint],
    calls: Counter,
    images: list[int],
    on_value: OnValue,
) -> Callable[[torch.Tensor | None], None]:
    def report(tensor: torch.Tensor | None) -> None:
        if tensor is None:
            return
        calls[key] += 1
        if calls[key] in by_call:
            if images and key[1] != "attention":
                tensor = per_image(tensor, images[0])
            on_value(by_call[calls[key]], tensor)

    return report


def _of_output(report: Callable[[torch.Tensor | None], None]) -> Any:
    return lambda part, args, output: report(first_tensor(output))


def _of_input(report: Callable[[torch.Tensor | None], None]) -> Any:
    return lambda part, args: report(first_tensor(args))


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
