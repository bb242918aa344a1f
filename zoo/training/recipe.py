"""The optimizer of a recipe and the learning rate of each of its steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from zoo.config import TrainConfig

SGD_MOMENTUM = 0.9


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return a recipe's optimizer; biases, norms and position embeddings are not decayed."""
    from timm.optim import param_groups_weight_decay

    parameters: Any = module.parameters()
    if config.weight_decay:
        undecayed: set[str] = getattr(module, "no_weight_decay", set)()
        parameters = param_groups_weight_decay(
            module, config.weight_decay, no_weight_decay_list=undecayed
        )
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=SGD_MOMENTUM)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    # One kernel over all parameters: the optimizer's step takes half the time.
    return kind(parameters, lr=config.learning_rate, weight_decay=0.0, fused=True)


def warmup_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Return over how many steps the learning rate rises."""
    return config.warmup_steps or round(config.warmup_epochs * steps_per_epoch)


def learning_rate_at(step: int, *, config: TrainConfig, steps: int, warmup: int) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then cosine or constant."""
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - warmup) / max(1, steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
