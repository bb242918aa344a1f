"""The training loop: seeded and resumable; callbacks listen to it.

Every epoch draws its order, augmentation and dropout from a seed of its own, and the learning
rate is a function of the step. So a checkpoint holds weights (their moving average and the best
so far, where the recipe has them) and the optimizer's state, and a run that was killed ends with
the same weights as one that was not.

Several processes share each batch: the settings mean the same for any number of them, and only the
draws of augmentation and dropout differ.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional

from zoo.config import TrainConfig
from zoo.data.augment import Augmentation
from zoo.data.subsets import Subset
from zoo.device import parse_device
from zoo.errors import UserError
from zoo.models.build import network_errors
from zoo.models.files import LoadedModel
from zoo.models.modes import eval_mode
from zoo.models.preprocess import in_order_for, preprocess
from zoo.models.spec import ModelSpec
from zoo.processes import process_count, process_index, summed
from zoo.progress import OnProgress, no_progress
from zoo.training.batches import TrainingImages, in_order, reading_processes, take
from zoo.training.checkpoint import (
    Progress,
    Row,
    Tensors,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from zoo.training.distillation import end_objective, make_objective
from zoo.training.hardware import accelerator_for, environment
from zoo.training.parallel import Learner, in_all_processes
from zoo.training.recipe import learning_rate_at, make_optimizer, warmup_steps

EVALUATION_BATCH = 500


class Callback(Protocol):
    """Someone who listens to a training run."""

    def on_start(self, state: dict[str, Any]) -> None:
        """Begin or continue; `state` is kept in the checkpoint and may be written to."""

    def on_epoch(self, row: Row, steps: list[Row]) -> None:
        """Take one epoch's metrics and those of its steps."""

    def on_end(self, ok: bool) -> None:
        """Learn that training is over, and whether its model is there."""


@dataclass(frozen=True)
class Trained:
    """A trained network on its device, one row per epoch and per step, and where it was trained."""

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
    steps: int,
    seed: int,
    teacher: LoadedModel | None = None,
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
        validation: images to watch; they choose the weights where `config.keep` is `best`.
        config: optimizer, schedule, augmentation, precision, threads.
        steps: of the optimizer; the last pass over the subset ends where they do.
        seed: of order, augmentation and dropout.
        teacher: a trained network to imitate; see `zoo.training.distillation`.
        device: as `zoo.device.parse_device` returns it, without doubles; its default for none.
        checkpoints: folder of the checkpoint; it must belong to this run alone. All processes
            read it, the first writes it.
        checkpoint_seconds: a finished epoch is saved when the last save is older than this.
        callbacks: are called at the start and for every epoch; see `telling_the_end`.
        on_progress: is called for every step.

    Raises:
        UserError: the loss is no longer finite, the checkpoint is damaged, or the teacher cannot
            teach this network; a batch has fewer images than there are processes.
    """
    if not len(subset):
        raise UserError("expected images to train on, got an empty subset")
    with accelerator_for(config, device or parse_device("", doubles=False)) as accelerator:
        run = _Run(module, spec, subset, config, steps, seed, accelerator, teacher)
        progress = run.restore(checkpoints) if checkpoints else Progress()
        for callback in callbacks:
            callback.on_start(progress.state)
        saved = time.monotonic()
        for epochs in run.rounds(progress):
            row, step_rows = run.round(epochs, validation, on_progress)
            progress.epochs.append(row)
            progress.steps.extend(step_rows)
            run.keep(progress)
            for callback in callbacks:
                callback.on_epoch(row, step_rows)
            due = process_index() == 0 and time.monotonic() - saved >= checkpoint_seconds
            if checkpoints and due:
                run.save(checkpoints, progress)
                saved = time.monotonic()
        run.module.load_state_dict(run.kept())
        end_objective(run.module)
        where = environment(accelerator)
    seconds = sum(row["seconds"] for row in progress.epochs)
    return Trained(run.module.eval(), progress.epochs, progress.steps, where, seconds)


@contextmanager
def telling_the_end(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Tell callbacks at the end of a block, in which a model is trained and written, how it went.

    Told before the model is there, they would call finished what a kill just then leaves undone.
    """
    ok = False
    try:
        yield
        ok = True
    finally:
        for callback in callbacks:
            callback.on_end(ok)


def evaluate(module: nn.Module, spec: ModelSpec, subset: Subset) -> Row:
    """Return `loss` (cross-entropy, nats) and `accuracy` (0..1) in float32 and eval mode.

    Several processes share the batches, and each returns the whole result.
    """
    device = next(module.parameters()).device
    loss, correct = 0.0, 0.0
    with torch.inference_mode(), eval_mode(module):
        starts = range(0, len(subset), EVALUATION_BATCH)
        parts = [slice(at, at + EVALUATION_BATCH) for at in starts]
        own = parts[process_index() :: process_count()]
        for images, classes in in_order(partial(take, subset), own, reading_processes(subset)):
            labels = classes.to(device)
            x = in_order_for(module, preprocess(images.to(device), spec))
            logits = module(x).float()
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(dim=1) == labels).sum())
    loss, correct = summed([loss, correct])
    return {"loss": loss / len(subset), "accuracy": correct / len(subset)}


def diverged(where: str, config: TrainConfig) -> UserError:
    """Return the error for a loss that is no longer a number."""
    return UserError(
        f"training diverged: the loss is not finite {where}; "
        f"lower the learning rate (now {config.learning_rate})"
    )


class _Run:
    """One training run: the prepared network and optimizer, and a step at a time."""

    def __init__(
        self,
        module: nn.Module,
        spec: ModelSpec,
        subset: Subset,
        config: TrainConfig,
        steps: int,
        seed: int,
        accelerator: Accelerator,
        teacher: LoadedModel | None,
    ) -> None:
        self.spec, self.subset, self.config, self.seed = spec, subset, config, seed
        self.accelerator, self.steps = accelerator, steps
        self.process, self.processes = process_index(), process_count()
        smallest = len(subset) % config.batch_size or config.batch_size
        if smallest < self.processes:
            raise UserError(
                f"expected at least one image of every batch for each of {self.processes} "
                f"processes, got a batch of {smallest}: change train.batch_size"
            )
        self.steps_per_epoch = math.ceil(len(subset) / config.batch_size)
        self.warmup = warmup_steps(config, self.steps_per_epoch)
        self.augmentation = Augmentation(
            config,
            classes=len(spec.class_names),
            mean=spec.mean,
            image_size=subset.info.image_size,
            seed=self.own_seed,
        )
        objective = make_objective(teacher, module, spec, accelerator.device)
        # Not prepared by Accelerate: it would validate in the precision of training, too.
        self.module = module.to(accelerator.device)
        # Validation and the finished network stay as they are built, as comparisons run them.
        learner = Learner(module, objective, compiled=config.compile)
        self.learner = in_all_processes(learner, accelerator.device)
        self.average = ModelEmaV3(module, config.ema, use_warmup=True) if config.ema else None
        self.optimizer = accelerator.prepare(make_optimizer(module, config))
        self.best: Tensors = {}

    @property
    def own_seed(self) -> int:
        """The seed of what differs from process to process: augmentation and dropout."""
        return self.seed + 1_000_000_007 * self.process

    def rounds(self, progress: Progress) -> Iterator[range]:
        """Yield the epochs between one validation and the next, after those already done."""
        each = max(1, math.ceil(self.config.validate_steps / self.steps_per_epoch))
        done = int(progress.epochs[-1]["epoch"]) if progress.epochs else 0
        epochs = math.ceil(self.steps / self.steps_per_epoch)
        # Beside a CPU's step, processes that change images would only take its cores.
        ahead = bool(self.config.augment) and self.accelerator.device.type != "cpu"
        readers = reading_processes(self.subset, ahead=ahead)
        read = TrainingImages(
            self.subset, self.config, self.augmentation, self.own_seed, ahead=readers > 0
        )
        self.images = in_order(read, self.keys(range(done, epochs)), readers)
        with closing(self.images):
            for first in range(done, epochs, each):
                yield range(first, min(first + each, epochs))

    def round(
        self, epochs: range, validation: Subset, on_progress: OnProgress
    ) -> tuple[Row, list[Row]]:
        began = time.perf_counter()
        first = epochs.start * self.steps_per_epoch
        counts: list[int] = []
        # In one place each: a small tensor kept of every step lets a CPU's memory fall to pieces.
        most = len(epochs) * self.steps_per_epoch
        losses, correct = torch.zeros(2, most, device=self.accelerator.device)
        for step, indices in self.batches(epochs):
            losses[len(counts)], correct[len(counts)] = self.step(step, indices)
            counts.append(len(indices))
            on_progress(step + 1, self.steps, "steps")
        values, sizes = torch.tensor(summed(losses[: len(counts)].tolist())), torch.tensor(counts)
        watched = evaluate(self.evaluated(), self.spec, validation)
        if not (torch.isfinite(values).all() and math.isfinite(watched["loss"])):
            raise diverged(f"in epoch {epochs.stop}", self.config)
        row = {
            "epoch": epochs.stop,
            "step": first + len(counts),
            "train/loss": float((values * sizes).sum() / sizes.sum()),
            "train/accuracy": summed([sum(correct.tolist())])[0] / sum(counts),
            "validation/loss": watched["loss"],
            "validation/accuracy": watched["accuracy"],
            "learning_rate": self.learning_rate(first + len(counts) - 1),
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

    def batches(self, epochs: range) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each step's number and the indices of its images, until the steps are used up."""
        for epoch in epochs:
            torch.manual_seed(self.seed * 1_000_003 + epoch)
            self.module.train()
            order = self.order(epoch, torch.default_generator)
            if self.process:
                torch.manual_seed(self.own_seed * 1_000_003 + epoch)
            yield from order

    def order(self, epoch: int, generator: torch.Generator) -> list[tuple[int, torch.Tensor]]:
        """Return an epoch's steps and the indices of their images, by a generator that it seeds."""
        generator.manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.subset), generator=generator)
        first = epoch * self.steps_per_epoch
        return [*enumerate(order.split(self.config.batch_size)[: self.steps - first], first)]

    def keys(self, epochs: range) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each step's number and this process's images, in the subset's order.

        It draws from a generator of its own, since what reads images ahead is ahead of the steps.
        """
        for epoch in epochs:
            for step, indices in self.order(epoch, torch.Generator()):
                yield step, indices[self.process :: self.processes].sort().values

    def step(self, step: int, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make a step on this process's images of a batch.

        Returns:
            Its part of the batch's mean loss, and how many of its images it knew.
        """
        config, device = self.config, self.accelerator.device
        images, labels = next(self.images)
        share = len(images) / len(indices)
        images, labels = (t.to(device, non_blocking=True) for t in (images, labels))
        x = in_order_for(self.module, preprocess(images, self.spec))
        x, labels = self.augmentation.change_input(x, labels, step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        what = f"{self.spec.name} cannot be trained on {len(x)} images of {x.shape[-1]} px"
        with network_errors(what), self.accelerator.autocast():
            logits, loss = self.learner(
                x,
                lambda logits: functional.cross_entropy(
                    logits.float(), labels, label_smoothing=config.label_smoothing
                ),
            )
        self.optimizer.zero_grad()
        # Gradients are averaged over processes, of which one may have an image more.
        self.accelerator.backward(loss * (share * self.processes))
        if config.clip_norm:
            self.accelerator.clip_grad_norm_(self.module.parameters(), config.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.module, step=step + 1)
        # Of mixed images, the class that most of the image is from.
        classes = labels if labels.ndim == 1 else labels.argmax(dim=1)
        return loss.detach() * share, (logits.detach().argmax(dim=1) == classes).sum()

    def learning_rate(self, step: int) -> float:
        return learning_rate_at(step, config=self.config, steps=self.steps, warmup=self.warmup)

    def evaluated(self) -> nn.Module:
        """Return the network that is judged and kept: the moving average where there is one."""
        return self.module if self.average is None else self.average.module

    def keep(self, progress: Progress) -> None:
        """Copy the weights where the latest validation is the best so far and those are kept."""
        rows = [(r["validation/accuracy"], -r["validation/loss"]) for r in progress.epochs]
        if self.config.keep == "best" and rows[-1] > max(rows[:-1], default=(-1.0, 0.0)):
            self.best = {k: v.detach().clone() for k, v in self.evaluated().state_dict().items()}

    def kept(self) -> Tensors:
        """Return the weights that the run ends with."""
        return self.best or self.evaluated().state_dict()

    def save(self, folder: Path, progress: Progress) -> None:
        groups = {
            "model": self.module.state_dict(),
            "average": self.average.module.state_dict() if self.average is not None else {},
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        save_checkpoint(folder, groups, progress)

    def restore(self, folder: Path) -> Progress:
        found = load_checkpoint(folder)
        if summed([found is not None])[0] not in (0, self.processes):
            raise UserError(
                "expected the processes to see one project folder, but only some have the "
                "checkpoint: keep it on a disk that all machines share"
            )
        if found is None:
            return Progress()
        groups, progress = found
        self.module.load_state_dict(groups["model"])
        if self.average is not None:
            self.average.module.load_state_dict(groups["average"])
        self.best = groups.get("best", {})
        restore_optimizer(self.optimizer, groups.get("optimizer", {}))
        return progress
