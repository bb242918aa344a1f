"""A network in another mode or on another device, for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put every submodule into eval mode, and each back into its own mode at the end."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


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
