"""Attention weights as a network really uses them, fused or not, without changing its outputs.

A fused kernel never forms the weights. While an attention module runs, calls of
`scaled_dot_product_attention` and of `softmax` over keys are watched by a torch function mode:
the call itself is made unchanged, and the weights are formed beside it from the queries and
keys it was given. That holds for rotary positions, query-key norms, registers and windows,
since all of them come before that call. `nn.MultiheadAttention` decides by itself which kernel
to use and would choose another while watched, so its weights are computed afterwards from its
inputs.

A module whose weights cannot be determined reports none: one that takes several softmaxes in one
call (differential attention subtracts them), or a masked `nn.MultiheadAttention`. Which modules
attend, and whether they use the weights as the softmax gave them, is found in
`zoo.capture.attending`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from zoo.models.preprocess import first_tensor

OnWeights = Callable[[torch.Tensor], None]
SOFTMAX = (torch.softmax, torch.Tensor.softmax, functional.softmax)
# The order of the arguments of nn.MultiheadAttention.forward.
MULTIHEAD_ARGUMENTS = (
    "query", "key", "value", "key_padding_mask", "need_weights", "attn_mask",
    "average_attn_weights", "is_causal",
)  # fmt: skip


def is_attention(module: nn.Module) -> bool:
    """Say whether a module is called attention, or says that it has heads."""
    name = type(module).__name__.lower()
    return "attn" in name or "attention" in name or hasattr(module, "num_heads")


@contextmanager
def record_attention(module: nn.Module, on_weights: OnWeights) -> Iterator[None]:
    """Report the weights of each call of one attention module for as long as the context lasts.

    Args:
        module: the attention module.
        on_weights: is called with float32 weights (n, heads, queries, keys), summing to 1 over
            keys; windowed attention gives (n * windows, heads, queries, keys).
    """
    with ExitStack() as stack:
        watch, running = WatchAttention(), stack.enter_context(ExitStack())

        def start(part: nn.Module, args: Any) -> None:
            running.enter_context(watch)

        def finish(part: nn.Module, args: Any, output: Any) -> None:
            running.close()
            seen, watch.seen = watch.seen, []
            if output is not None and len(seen) == 1:
                weights = by_head(seen[0], part, first_tensor(args))
                if weights is not None:
                    on_weights(weights)

        def recompute(part: nn.MultiheadAttention, args: Any, kwargs: dict, output: Any) -> None:
            if given := unmasked(part, args, kwargs):
                on_weights(multihead_weights(part, given["query"], given["key"]))

        if isinstance(module, nn.MultiheadAttention):
            hooks = [module.register_forward_hook(recompute, with_kwargs=True)]
        else:
            hooks = [
                module.register_forward_pre_hook(start),
                module.register_forward_hook(finish, always_call=True),
            ]
        for hook in hooks:
            stack.callback(hook.remove)
        yield


def on_multihead_outputs(module: nn.MultiheadAttention, on_heads: OnWeights) -> Any:
    """Report what an unmasked module's heads give, whenever it runs; return the hook's handle.

    They are computed again, since the module never calls its output projection as a module.

    Args:
        module: it is not changed.
        on_heads: is called with the outputs (n, queries, heads * width) before the projection.
    """

    def report(part: nn.MultiheadAttention, args: Any, kwargs: dict, output: Any) -> None:
        if given := unmasked(part, args, kwargs):
            weights = multihead_weights(part, given["query"], given["key"])
            value = given["value"] if part.batch_first else given["value"].transpose(0, 1)
            v = _project(part, value, 2).to(weights.dtype)
            on_heads((weights @ v).transpose(1, 2).flatten(2))

    return module.register_forward_hook(report, with_kwargs=True)


def unmasked(module: nn.MultiheadAttention, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name; none where something masks or adds keys."""
    given = dict(zip(MULTIHEAD_ARGUMENTS, args, strict=False)) | kwargs
    masks = (given.get("key_padding_mask"), given.get("attn_mask"), module.bias_k)
    return given if all(m is None for m in masks) and not module.add_zero_attn else {}


def by_head(
    weights: torch.Tensor, module: nn.Module, given: torch.Tensor | None
) -> torch.Tensor | None:
    """Return weights as (n, heads, queries, keys); None where the heads' axis is not known.

    Args:
        weights: (…, queries, keys). Of weights with one axis before these, that axis is taken for
            images (or windows) and, within each, heads.
        module: which took the softmax.
        given: what it was given, (n, …).
    """
    heads = getattr(module, "num_heads", None)
    if weights.ndim == 3:
        images = 0 if given is None else len(given)
        count = len(weights) // images if images else 0
        known = count and len(weights) == count * images and heads in (None, count)
        return weights.unflatten(0, (-1, count)) if known else None
    if heads not in (None, weights.shape[-3]):
        if weights.ndim != 5 or weights.shape[1] != heads:
            return None
        weights = weights.transpose(1, 2)  # the blocks of an image come after its heads (NesT)
    return weights.flatten(0, -4)


class WatchAttention(TorchFunctionMode):
    """Keeps the weights of every softmax over keys that is taken while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        if function is functional.scaled_dot_product_attention and output.ndim >= 3:
            logits = _logits_of_call(*args, **kwargs)
            self.see(logits, logits.softmax(dim=-1), fused=True)
        elif function in SOFTMAX and output.ndim >= 3 and _over_keys(args, kwargs, output.ndim):
            # A copy: the network may go on to change its own weights in place.
            weights = output.detach().to(torch.float32, copy=True)
            self.see(args[0] if args else kwargs["input"], weights, fused=False)
        return output

    def see(self, logits: torch.Tensor, weights: torch.Tensor, *, fused: bool) -> None:
        """Keep what a softmax gave of logits; a `fused` kernel itself applies it to the values."""
        self.seen.append(weights)


def _over_keys(args: tuple, kwargs: dict, ndim: int) -> bool:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return dim in (-1, ndim - 1)


def _logits_of_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return q kᵀ · scale + mask, in float32, of one call of fused attention."""
    query, key = query.detach().float(), key.detach().float()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~allowed, -math.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            logits = logits.masked_fill(~attn_mask, -math.inf)
        else:
            logits = logits + attn_mask
    return logits


def multihead_weights(
    module: nn.MultiheadAttention, query: torch.Tensor, key: torch.Tensor
) -> torch.Tensor:
    """Return the weights (n, heads, queries, keys) of an unmasked `nn.MultiheadAttention`."""
    if not module.batch_first:
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    q, k = _project(module, query, 0), _project(module, key, 1)
    return _logits_of_call(q, k, k).softmax(dim=-1)


def _project(module: nn.MultiheadAttention, tokens: torch.Tensor, which: int) -> torch.Tensor:
    """Return a module's queries, keys or values (`which` 0, 1, 2), (n, heads, tokens, width)."""
    if module.in_proj_weight is not None:
        weight = module.in_proj_weight.chunk(3)[which]
    else:
        weight = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)[which]
    bias = None if module.in_proj_bias is None else module.in_proj_bias.chunk(3)[which]
    heads = (module.num_heads, module.head_dim)
    return functional.linear(tokens, weight, bias).unflatten(-1, heads).transpose(1, 2)
