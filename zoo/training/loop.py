"""The training loop: seeded, resumable, and silent about who is listening.

Every epoch draws its order, augmentation and dropout from a seed of its own, and the learning
rate is a function of the step. So a checkpoint holds weights and the optimizer's state, and a
run that was killed ends with the same weights as one that was not.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from zoo.config import TrainConfig
from zoo.data.augment import random_crop_flip
from zoo.data.subsets import Subset
from zoo.errors import UserError
from zoo.files import write_bytes
from zoo.models.modes import eval_mode
from zoo.models.preprocess import preprocess
from zoo.models.spec import ModelSpec
from zoo.progress import OnProgress, no_progress
from zoo.training.hardware import accelerator_for, environment

EVALUATION_BATCH = 500
SGD_MOMENTUM = 0.9
CHECKPOINT = "checkpoint.safetensors"
Row = dict[str, float]


class Callback(Protocol):
    """Someone who listens to a training run."""

    def on_start(self, state: dict[str, Any]) -> None:
        """Begin or continue; `state` is kept in the checkpoint and may be written to."""

    def on_epoch(self, row: Row, steps: list[Row]) -> None:
        """Take one epoch's metrics and those of its steps."""

    def on_end(self, ok: bool) -> None:
        """Learn that training is over, and whether it came to its end."""


@dataclass
class Progress:
    """What a checkpoint keeps beside weights and the optimizer's state."""

    epochs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained network on its device, one row an epoch, one a step, and where it was trained."""

    module: nn.Module
    epochs: list[Row]
    steps: list[Row]
    environment: dict[str, str]
    seconds: float


def train(
    module: nn.Module,
    spec: ModelSpec,
    subset: Subset,
    validation: Subset,
    config: TrainConfig,
    *,
    epochs: int,
    seed: int,
    device: str = "",
    checkpoints: Path | None = None,
    checkpoint_seconds: float = 10.0,
    callbacks: Sequence[Callback] = (),
    on_progress: OnProgress = no_progress,
) -> Trained:
    """Train a network, continuing from a checkpoint where there is one.

    Args:
        module: the untrained network.
        spec: says how images become its input.
        subset: images to train on.
        validation: images to watch; nothing is decided by them here.
        config: optimizer, schedule, augmentation, precision, threads.
        epochs: passes over the subset.
        seed: of order, augmentation and dropout.
        device: as `zoo.device.parse_device` returns it; a GPU where there is one for none.
        checkpoints: folder of the checkpoint; it must belong to this run alone.
        checkpoint_seconds: a finished epoch is saved when the last save is older than this.
        callbacks: are told of every epoch.
        on_progress: is told of every step.

    Raises:
        UserError: the loss is no longer finite, or the checkpoint is damaged.
    """
    if not len(subset):
        raise UserError("expected images to train on, got an empty subset")
    with accelerator_for(config, device) as accelerator:
        run = _Run(module, spec, subset, config, epochs, seed, accelerator)
        progress = run.restore(checkpoints) if checkpoints else Progress()
        for callback in callbacks:
            callback.on_start(progress.state)
        ok = False
        try:
            saved = time.monotonic()
            for epoch in range(len(progress.epochs), epochs):
                row, steps = run.epoch(epoch, validation, on_progress)
                progress.epochs.append(row)
                progress.steps.extend(steps)
                for callback in callbacks:
                    callback.on_epoch(row, steps)
                if checkpoints and time.monotonic() - saved >= checkpoint_seconds:
                    run.save(checkpoints, progress)
                    saved = time.monotonic()
            ok = True
        finally:
            for callback in callbacks:
                callback.on_end(ok)
        trained = accelerator.unwrap_model(run.module, keep_fp32_wrapper=False).eval()
        where = environment(accelerator)
    seconds = sum(row["seconds"] for row in progress.epochs)
    return Trained(trained, progress.epochs, progress.steps, where, seconds)


def evaluate(module: nn.Module, spec: ModelSpec, subset: Subset) -> Row:
    """Return `loss` (cross-entropy, nats) and `accuracy` (0..1) in float32 and eval mode."""
    device = next(module.parameters()).device
    loss, correct = 0.0, 0
    with torch.inference_mode(), eval_mode(module):
        for start in range(0, len(subset), EVALUATION_BATCH):
            images, labels = _take(subset, slice(start, start + EVALUATION_BATCH))
            labels = labels.to(device)
            logits = module(preprocess(images.to(device), spec)).float()
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(dim=1) == labels).sum())
    return {"loss": loss / len(subset), "accuracy": correct / len(subset)}


def diverged(where: str, config: TrainConfig) -> UserError:
    """Return the error for a loss that is no longer a number."""
    return UserError(
        f"training diverged: the loss is not finite {where}; "
        f"lower the learning rate (now {config.learning_rate})"
    )


def learning_rate_at(step: int, *, config: TrainConfig, steps: int, warmup: int) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then cosine or constant."""
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - warmup) / max(1, steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


class _Run:
    """One training run: the prepared network and optimizer, and a step at a time."""

    def __init__(
        self,
        module: nn.Module,
        spec: ModelSpec,
        subset: Subset,
        config: TrainConfig,
        epochs: int,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.spec, self.subset, self.config, self.seed = spec, subset, config, seed
        self.accelerator = accelerator
        self.steps_per_epoch = math.ceil(len(subset) / config.batch_size)
        self.steps = self.steps_per_epoch * epochs
        self.warmup = round(config.warmup_epochs * self.steps_per_epoch)
        self.module, self.optimizer = accelerator.prepare(module, _optimizer(module, config))

    def epoch(
        self, epoch: int, validation: Subset, on_progress: OnProgress
    ) -> tuple[Row, list[Row]]:
        began = time.perf_counter()
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        self.module.train()
        order = torch.randperm(len(self.subset))
        losses, correct = [], []
        for i, indices in enumerate(order.split(self.config.batch_size)):
            loss, right = self.step(epoch * self.steps_per_epoch + i, indices)
            losses.append(loss)
            correct.append(right)
            on_progress(epoch * self.steps_per_epoch + i + 1, self.steps, "steps")
        values = torch.stack(losses).float().cpu()
        first = epoch * self.steps_per_epoch
        sizes = torch.tensor([len(chunk) for chunk in order.split(self.config.batch_size)])
        with self.accelerator.autocast():
            watched = evaluate(self.module, self.spec, validation)
        if not (torch.isfinite(values).all() and math.isfinite(watched["loss"])):
            raise diverged(f"in epoch {epoch + 1}", self.config)
        row = {
            "epoch": epoch + 1,
            "step": first + len(losses),
            "train/loss": float((values * sizes).sum() / sizes.sum()),
            "train/accuracy": float(torch.stack(correct).sum()) / len(self.subset),
            "validation/loss": watched["loss"],
            "validation/accuracy": watched["accuracy"],
            "learning_rate": self.learning_rate(first + len(losses) - 1),
            "seconds": time.perf_counter() - began,
        }
        steps = [
            {
                "step": first + i + 1,
                "train/step_loss": float(value),
                "learning_rate": self.learning_rate(first + i),
            }
            for i, value in enumerate(values)
        ]
        return row, steps

    def step(self, step: int, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        config, device = self.config, self.accelerator.device
        images, labels = _take(self.subset, indices.sort().values.numpy())
        images = random_crop_flip(images, padding=config.crop_padding, flip=config.flip)
        images, labels = preprocess(images.to(device), self.spec), labels.to(device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        logits = self.module(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()

    def learning_rate(self, step: int) -> float:
        return learning_rate_at(step, config=self.config, steps=self.steps, warmup=self.warmup)

    def save(self, folder: Path, progress: Progress) -> None:
        tensors = {f"model.{k}": v for k, v in self.module.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in entry.items() if v is not None}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        metadata = {"progress": json.dumps(dataclasses.asdict(progress))}
        write_bytes(folder / CHECKPOINT, save(tensors, metadata=metadata))

    def restore(self, folder: Path) -> Progress:
        path = folder / CHECKPOINT
        if not path.exists():
            return Progress()
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                progress = Progress(**json.loads((file.metadata() or {})["progress"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it to train anew") from None
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k[:6] == "model."}
        self.module.load_state_dict(weights)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, entry = key.split(".", 2)
                state.setdefault(int(index), {})[entry] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        return progress


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(module.parameters(), momentum=SGD_MOMENTUM, **common)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    # One kernel over all parameters: the optimizer's step takes half the time.
    return kind(module.parameters(), fused=True, **common)


def _take(subset: Subset, which: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(subset.images[which].copy()), torch.from_numpy(
        subset.labels[which].copy()
    )
