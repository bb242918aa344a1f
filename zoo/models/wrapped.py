"""Networks as users hold them: compiled, spread over devices, scripted, not yet initialised."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from zoo.errors import UserError

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Sealed(nn.Module):
    """Holds a TorchScript network, which takes no hooks: only what it gives can be looked at."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Any:
        """Run the network."""
        return self.network(images)


def network_inside(module: nn.Module) -> nn.Module:
    """Return the network that `torch.compile` or data-parallel training wraps.

    It computes the same, and its parts can be looked at under their own names.

    Raises:
        UserError: weights are not there yet, as in `nn.LazyLinear`.
    """
    while True:
        inner = getattr(module, "_orig_mod", None)  # of torch.compile
        if isinstance(module, PARALLEL):
            inner = module.module
        if not isinstance(inner, nn.Module):
            break
        module = inner
    if lazy := [name for name, tensor in module.state_dict().items() if is_lazy(tensor)]:
        raise UserError(
            f"{type(module).__name__}: {lazy[0]} is not initialised, as in a lazy layer: run the "
            "network on one image, and load its weights, before it is wrapped"
        )
    return Sealed(module) if isinstance(module, torch.jit.ScriptModule) else module


def weights_digest(state: Mapping[str, Any]) -> str:
    """Return the sha256 over a network's state: tensors of any kind, and what is no tensor.

    Quantised layers keep types and packed tuples in it, and `get_extra_state` anything.
    """
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name} ".encode())
        _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"{tuple(value.shape)} {value.dtype}\n".encode())
        if value.is_quantized:
            value = value.dequantize()
        plain = value.detach().cpu().to_dense().contiguous()
        digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            digest.update(f"{key}: ".encode())
            _add(digest, inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            _add(digest, inner)
    elif isinstance(value, torch.dtype):
        digest.update(str(value).encode())
    else:
        digest.update(pickle.dumps(value, protocol=4))
