"""Which modules of a network attend, and whether their weights can be read.

This is not guessed from names. A softmax over keys belongs to the innermost running module with
weights of its own. It is attention of tokens to tokens where two tokens that change places change
the logits in their columns and not in all; where channels attend to channels, they change none,
or all. The weights can be read where the values are multiplied with what the softmax gave.
Without a softmax, a module attends that multiplies what it computed with what it computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.capture.attention import (
    MULTIHEAD_ARGUMENTS,
    WatchAttention,
    by_head,
    is_attention,
    unmasked,
)
from zoo.models.preprocess import first_tensor

PRODUCTS = (
    torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm,
    torch.einsum, torch.baddbmm,
)  # fmt: skip
CHANGED = 1e-4  # of the largest logit; less is rounding
MOST_OUTER = 3  # modules around a softmax, of which one is given the tokens
MOST_CHANGED = 0.95  # of the logits; where channels attend, a token changes all of them
FEW_TOKENS = 9  # a convolution before the attention may reach all of so few
SEVERAL = "takes more than one softmax"
CHANGED_AFTER = "changes its weights after the softmax"
NOT_TOKENS = "takes its softmax over something else than tokens"
NO_SOFTMAX = "takes no softmax over keys"
HEADS_APART = "does not keep images and heads apart"
MASKED = "is masked"


@dataclass(frozen=True)
class Attention:
    """Attention for one image: (windows, heads, queries, keys).

    `unread` says why the weights cannot be read; it is empty where they can.
    """

    shape: tuple[int, int, int, int]
    unread: str = ""

    @property
    def of_tokens(self) -> bool:
        """Whether each of the queries is a token that attends to the keys, also tokens."""
        return self.unread not in (NOT_TOKENS, NO_SOFTMAX)


@dataclass(eq=False)
class _Call:
    """A running module, what it is given, and how much was found before."""

    path: str
    part: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    softmaxes: int
    products: int


@dataclass(eq=False)
class _Softmax:
    """What a softmax gave; `calls` are the modules that ran, from the innermost outwards."""

    logits: torch.Tensor
    weights: torch.Tensor
    used: bool
    calls: list[_Call] = field(default_factory=list)


class _Watch(WatchAttention):
    """Keeps every softmax over keys, and whether values are multiplied with what it gave.

    It counts the products of tensors that are all made while it watches, in inference mode: of
    activations with each other, not with weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Softmax] = []
        self.products = 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function in PRODUCTS:
            factors = [given for given in args if isinstance(given, torch.Tensor)]
            self.products += len(factors) > 1 and all(t.is_inference() for t in factors[-2:])
            if self.found and not self.found[-1].used:
                self.found[-1].used = _among(factors, self.found[-1].weights)
        return super().__torch_function__(function, types, args, kwargs)

    def see(self, logits: torch.Tensor, weights: torch.Tensor, *, fused: bool) -> None:
        kept = logits.detach().to(torch.float32, copy=True)
        self.found.append(_Softmax(kept, weights, fused))


def find_attention(
    parts: Iterable[tuple[str, nn.Module]], module: nn.Module, example: torch.Tensor
) -> dict[str, list[Attention]]:
    """Say which parts of a network attend, for each call of a part in turn.

    Args:
        parts: those that can be watched, with their paths.
        module: the network, in eval mode.
        example: an input (1, 3, height, width): its shape is taken, and noise is shown.
    """
    watch, running = _Watch(), list[_Call]()
    found: list[tuple[str, Attention]] = []

    def begin(path: str, part: nn.Module, args: Any, kwargs: Any) -> None:
        # Copies: the module may work in place on them.
        given = tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in args)
        running.append(_Call(path, part, given, kwargs, len(watch.found), watch.products))

    def end(part: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = running.pop()
        own = watch.found[call.softmaxes :]
        if isinstance(part, nn.MultiheadAttention):
            found.append((call.path, _multihead(part, args, kwargs)))
        elif is_attention(part) or next(part.parameters(), None) is not None:
            for softmax in own:
                if len(own) == 1 or not softmax.calls:
                    softmax.calls.append(call)
            if not own and watch.products > call.products:
                found.append((call.path, Attention((1, 1, 0, 0), NO_SOFTMAX)))
                watch.products = call.products  # parts around it do not attend

    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    with ExitStack() as stack:
        for path, part in parts:
            hook = part.register_forward_pre_hook(partial(begin, path), with_kwargs=True)
            stack.callback(hook.remove)
            stack.callback(part.register_forward_hook(end, with_kwargs=True).remove)
        stack.enter_context(watch)
        module(noise)
    taken: dict[_Call, list[_Softmax]] = {}
    for softmax in watch.found:
        if softmax.calls:
            taken.setdefault(softmax.calls[0], []).append(softmax)
    calls: dict[str, list[Attention]] = {}
    for path, attention in [*found, *filter(None, map(_attention, taken.values()))]:
        calls.setdefault(path, []).append(attention)
    return calls


def _multihead(part: nn.MultiheadAttention, args: Any, kwargs: dict[str, Any]) -> Attention:
    given = dict(zip(MULTIHEAD_ARGUMENTS, args, strict=False)) | kwargs
    windows, queries = given["query"].shape[:2]
    keys = given["key"].shape[1]
    if not part.batch_first:
        windows, queries, keys = queries, windows, len(given["key"])
    unread = "" if unmasked(part, args, kwargs) else MASKED
    return Attention((windows, part.num_heads, queries, keys), unread)


def _attention(own: list[_Softmax]) -> tuple[str, Attention] | None:
    """Return what a call attends to, of the softmaxes that it took, with the attending part."""
    last = own[-1]
    inner = last.calls[0]
    named = is_attention(inner.part)
    queries, keys = last.weights.shape[-2:]
    given, unread = inner if named else None, "" if last.used else CHANGED_AFTER
    if len(own) > 1:
        given, unread = inner if queries == keys else given, SEVERAL
    elif queries == keys > 1:  # else a class token asks, or keys are pooled
        if last.used and _in_another_order(inner, last):
            given, unread = inner, HEADS_APART
        else:
            # A part without weights may be given queries and keys; the tokens go to one around it.
            weighted = named and next(inner.part.parameters(), None) is not None
            calls = last.calls[: 1 if weighted else MOST_OUTER]
            given = next((c for c in calls if _of_tokens(c, last)), None)
    if given is None:
        return (inner.path, Attention(_shape(inner, last), NOT_TOKENS)) if named else None
    if _by_head(last.weights, given) is None:
        unread = unread or HEADS_APART
    return given.path, Attention(_shape(given, last), unread)


def _by_head(values: torch.Tensor, call: _Call) -> torch.Tensor | None:
    return by_head(values, call.part, first_tensor(call.args))


def _shape(call: _Call, softmax: _Softmax) -> tuple[int, int, int, int]:
    """Return (windows, heads, queries, keys); one head where their number is not known."""
    weights = _by_head(softmax.weights, call)
    if weights is None:
        weights = softmax.weights.flatten(0, -3).unsqueeze(1)
    windows, heads, queries, keys = weights.shape
    return windows, heads, queries, keys


def _among(operands: Any, weights: torch.Tensor) -> bool:
    """Say whether one of the operands of a product holds these weights, in any shape."""
    for operand in operands:
        if isinstance(operand, torch.Tensor) and operand.numel() == weights.numel():
            rounded = weights.to(operand.dtype).flatten()
            for way in (operand, operand.mT):
                if torch.allclose(way.flatten(), rounded, rtol=0, atol=0, equal_nan=True):
                    return True
    return False


def _of_tokens(call: _Call, softmax: _Softmax) -> bool:
    """Say whether a module's softmax is one of tokens over tokens.

    It runs again on noise, and beside it on the same with two tokens in each other's place: what is
    computed over all tokens, such as a norm, stays as it is. A part that is not called attention
    must change the tokens' rows of logits as well, so that a softmax over something else is not
    taken for it.
    """
    named = is_attention(call.part)
    logits, again = _by_head(softmax.logits, call), _logits_beside(call)
    if again is None or logits is None or len(again) != 3 * len(logits):
        return named
    _, before, after = again.chunk(3)
    scale = _rounding(before)
    masked = before.isinf().any(1)
    changed = ((after - before).abs() > scale).any(1)  # of any head: (windows, queries, keys)
    touched = changed.flatten(1).any(1)
    whole = (changed | masked)[touched]
    if before.isnan().any():
        return named  # nothing in it is a number
    if not len(whole):  # channels attend, or all queries and keys are the same
        return named and float(before[before.isfinite()].std(correction=0)) <= scale
    if float(whole.float().mean()) > MOST_CHANGED:
        return named and whole.shape[-1] <= FEW_TOKENS
    if named:  # a module may fill its windows up with tokens of zeros
        return int(changed.sum(-2).max()) > 1
    return bool(whole.all(-2).any() and whole.all(-1).any())


def _rounding(logits: torch.Tensor) -> float:
    return CHANGED * float(logits.nan_to_num(posinf=0, neginf=0).abs().max())


def _in_another_order(call: _Call, softmax: _Softmax) -> bool:
    """Say whether images do not come before heads on the axis that they share, as `by_head` takes.

    The logits of the first of three are then not those of it alone.
    """
    if softmax.logits.ndim != 3:
        return False
    logits, again = _by_head(softmax.logits, call), _logits_beside(call)
    if logits is None or again is None:
        return False
    same = again[: len(logits)]
    return same.shape != logits.shape or not torch.allclose(
        same, logits, rtol=0, atol=_rounding(logits), equal_nan=True
    )


def _logits_beside(call: _Call) -> torch.Tensor | None:
    """Return a module's logits for what it was given, for noise, and for two tokens exchanged.

    None where it is given no maps or tokens, or does not run on three of them at once.
    """
    given = call.args[0] if call.args else None
    if not isinstance(given, torch.Tensor) or given.ndim not in (3, 4):
        return None
    random = torch.Generator().manual_seed(0)
    noise = given + torch.randn(given.shape, generator=random).to(given)  # no token is zero
    other = noise.clone()
    row = other[0]
    if given.ndim == 4:
        row = row.movedim(0, -1) if _channels_first(call.part, given) else row
        row = row[len(row) // 2]
    two = row[max(0, len(row) // 2 - 1) :][:2]
    two.copy_(two.flip(0))
    rest = tuple(
        torch.cat([a] * 3) if isinstance(a, torch.Tensor) and len(a) == len(given) else a
        for a in call.args[1:]
    )
    three = torch.cat([given, noise, other])
    watch = _Watch()
    try:
        with watch:
            call.part(three.clone(), *rest, **call.kwargs)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError):
        return None
    if len(watch.found) != 1:
        return None
    return by_head(watch.found[0].logits, call.part, three)


def _channels_first(part: nn.Module, given: torch.Tensor) -> bool:
    """Say whether a map has its channels first: its two equal sides are height and width."""
    _, first, second, third = given.shape
    if (first == second) == (second == third):
        return any(isinstance(inner, nn.Conv2d) for inner in part.children())
    return second == third
