"""A network in another mode or on another device, for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from threading import Lock
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
        with _uncompiled(), _fast_path.off():
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


class _FastPath:
    """Torch's fast path of `nn.MultiheadAttention`, `nn.TransformerEncoder` and its layers.

    Torch takes it in layers without hooks alone. It rounds otherwise, and on the way gives nested
    tensors, which have no shape. It is one switch for all threads: the last one in this context
    puts it back.
    """

    def __init__(self) -> None:
        self.lock, self.users, self.before = Lock(), 0, True

    @contextmanager
    def off(self) -> Iterator[None]:
        with self.lock:
            if not self.users:
                self.before = mha.get_fastpath_enabled()
                mha.set_fastpath_enabled(False)
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    mha.set_fastpath_enabled(self.before)


_fast_path = _FastPath()


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
