"""One network in several processes: averaged gradients, and batch norm over all their images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from zoo.errors import UserError
from zoo.processes import process_count
from zoo.training.distillation import Criterion, Objective


class Learner(nn.Module):
    """A network with its objective: what one step computes is a call of this module.

    `compiled` has torch.compile make a kernel for each size of batch (a full one, and the last of
    an epoch), so that a step's bits do not depend on which sizes came before it.
    """

    def __init__(self, module: nn.Module, objective: Objective, *, compiled: bool = False) -> None:
        super().__init__()
        normed = any(isinstance(part, _BatchNorm) for part in module.modules())
        self.synced = normed and process_count() > 1
        if compiled and self.synced:  # kernels would normalise over one process's images
            raise UserError(
                "train.compile: expected one process for a network with batch norm, got "
                f"{process_count()}: set it to false, or start one"
            )
        self.module: Any = torch.compile(module, dynamic=False) if compiled else module
        self.objective = objective

    def forward(self, x: torch.Tensor, criterion: Criterion) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and the loss."""
        synced: AbstractContextManager[Any] = SyncBatchNorm() if self.synced else nullcontext()
        with synced:
            return self.objective(self.module, x, criterion)


def in_all_processes(learner: Learner, device: torch.device) -> nn.Module:
    """Return a learner whose gradients are averaged over the processes; itself for one."""
    if process_count() == 1:
        return learner
    # Of every convolution of 1 × 1; it is about speed alone.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    gpu = [device] if device.type == "cuda" else None
    # A static graph may have weights that the network does not use.
    return DistributedDataParallel(learner, device_ids=gpu, static_graph=True)


class SyncBatchNorm(TorchFunctionMode):
    """Within it, batch norm in training uses the mean and variance over all processes' images.

    torch's own SyncBatchNorm does not run on CPUs. As it intercepts the function, it serves
    every layer that calls it, timm's with an activation included, and replaces no module.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace batch norm, and call everything else as it is."""
        if func is functional.batch_norm and (kwargs or {}).get("training"):
            return synced_batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def synced_batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """Normalise (n, channels, ...) over the images of all processes; n may differ among them.

    Arguments are those of `torch.nn.functional.batch_norm` in training.
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    values = x.float()
    sizes = values.new_tensor([x.numel() / x.shape[1]])
    *_, count = totals = _Sum.apply(torch.cat([values.sum(axes), sizes]))
    mean = totals[:-1] / count
    centred = values - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            unbiased = variance * (count / (count - 1))
            running_var.lerp_(unbiased.to(running_var), momentum)
    found = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None and bias is not None:
        found = found * weight.view(shape) + bias.view(shape)
    return found.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
