"""A network in another mode or on another device, for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.backends import mha


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put every submodule into eval mode, and each back into its own mode at the end.

    Until then networks run as they are written, whichever of their parts are watched: without
    compiled code, and without torch's fast path for transformers.
    """
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
    except NotImplementedError:  # an exported graph, which runs in the mode it was exported in
        for part in modes:
            part.training = False
    try:
        with _uncompiled(), _without_fast_path():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def _uncompiled() -> AbstractContextManager[Any]:
    """Let compiled parts of a network run as they are written: hooks are for its own parts."""
    if "torch._dynamo" not in sys.modules:  # which takes seconds to import, and nothing is compiled
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Switch off torch's fast path of `nn.MultiheadAttention` and `nn.TransformerEncoder`.

    Torch takes it in layers without hooks alone. It rounds otherwise, and on the way gives nested
    tensors, which have no shape.
    """
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


@contextmanager
def on_own_devices(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Bring each network back, at the end, to the device that its weights lay on."""
    homes = {}
    for module in modules:
        if (tensor := next(chain(module.parameters(), module.buffers()), None)) is not None:
            homes[module] = tensor.device
    try:
        yield
    finally:
        for module, home in homes.items():
            module.to(home)
