"""How a model of the zoo is built and trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from zoo.config.limits import BATCH, EPOCHS, LEARNING_RATE, STEPS, check, check_one_of
from zoo.config.mapping import Range, check_ranges, numbers_in
from zoo.errors import UserError

SCHEDULES = ("cosine", "constant")
OPTIMIZERS = ("adam", "adamw", "sgd")
KEEP = ("last", "best")
PRECISIONS = ("auto", "bf16", "float32")
ARGUMENT, MOST_ARGUMENTS = Range(-100_000, 100_000), 1000  # numbers among a network's kwargs
# Arguments of a network that follow from the data, change its head, or read files or the network.
RESERVED = {
    *("arch", "classes", "image_size", "img_size", "in_chans", "num_classes"),
    *("features_only", "feature_cfg", "out_indices", "cache_dir", "checkpoint_path"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
}


@dataclass(frozen=True)
class TrainConfig:
    """How a variant is trained; every variant can override any of it.

    Its length is either `epochs` (passes over the subset) or `steps` (of the optimizer, the same
    on every subset). `mixup` and `cutmix` are the alphas of their Beta distributions, `augment` a
    policy of timm (`rand-m9-mstd0.5-inc1`, `original`), `random_erasing` a probability, `ema` a
    decay and `clip_norm` the largest norm of the gradient; 0 or "" leaves each of them out.
    `compile` is for GPUs: torch.compile makes kernels of the network's own first.
    """

    batch_size: Annotated[int, BATCH]
    learning_rate: Annotated[float, LEARNING_RATE]
    epochs: Annotated[int | dict[str, int] | None, EPOCHS] = None
    steps: Annotated[int, STEPS] = 0
    optimizer: str = "adam"
    weight_decay: Annotated[float, Range(0, 1000)] = 0.0
    schedule: str = "cosine"
    warmup_epochs: Annotated[float, Range(0, 100_000)] = 0.0
    warmup_steps: Annotated[int, STEPS] = 0
    crop_padding: Annotated[int, Range(0, 4096, "pixels")] = 0
    flip: bool = False
    augment: str = ""
    random_erasing: Annotated[float, Range(0, 1)] = 0.0
    mixup: Annotated[float, Range(0, 1000)] = 0.0
    cutmix: Annotated[float, Range(0, 1000)] = 0.0
    normalise: bool = True
    label_smoothing: Annotated[float, Range(0, 1)] = 0.0
    ema: Annotated[float, Range(0, 0.999999)] = 0.0
    clip_norm: Annotated[float, Range(0, 1e6)] = 0.0
    validate_steps: Annotated[int, STEPS] = 0
    keep: str = "last"
    precision: str = "auto"
    compile: bool = False
    threads: Annotated[int, Range(0, 1024, "(0: all cores)")] = 0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps == 0):
            raise UserError(
                "train: expected either epochs or steps (above 0), "
                f"got epochs {self.epochs} and steps {self.steps}"
            )
        check_ranges(self, "train.")
        both = self.warmup_epochs and self.warmup_steps
        check("train", not both, "warmup_epochs or warmup_steps, one of them 0", "both above 0")
        check_one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        check_one_of("train.schedule", self.schedule, SCHEDULES)
        check_one_of("train.keep", self.keep, KEEP)
        check_one_of("train.precision", self.precision, PRECISIONS)

    def epochs_on(self, subset: str) -> int:
        """Return how many passes to make over a subset; 0 where `steps` decide."""
        if not isinstance(self.epochs, dict):
            return self.epochs or 0
        if subset not in self.epochs:
            raise UserError(
                f"train.epochs has no entry for the subset {subset!r}: "
                f"give one number for all subsets or add it (there: {', '.join(self.epochs)})"
            )
        return self.epochs[subset]

    def steps_on(self, subset: str, images: int) -> int:
        """Return how many steps the optimizer makes on a subset of so many images."""
        return self.steps or self.epochs_on(subset) * math.ceil(images / self.batch_size)


@dataclass(frozen=True)
class ModelConfig:
    """One architecture of the zoo: its name, its arguments and its own training settings.

    `start` is a model (a folder, or a registered one) whose weights training starts from, `teacher`
    one whose answers or features it imitates (docs/variants.md). In both, `{subset}` and `{seed}`
    stand for those of the variant.
    """

    arch: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    teacher: str = ""

    def __post_init__(self) -> None:
        check_kwargs(self.arch, self.kwargs)

    def ancestors(self) -> dict[str, str]:
        """Return the other models that its training needs, by their role."""
        roles = {"start": self.start, "teacher": self.teacher}
        return {role: reference for role, reference in roles.items() if reference}


def check_kwargs(arch: str, kwargs: Mapping[str, Any]) -> None:
    """Raise `UserError` where a network's arguments are not JSON or hold one that zoo gives."""
    if taken := sorted(RESERVED & kwargs.keys()):
        raise UserError(
            f"{arch}: kwargs hold {', '.join(taken)}, which zoo sets itself (classes and image "
            "size follow from the data, and weights from training); remove it"
        )
    try:
        json.dumps(kwargs, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{arch}: expected kwargs that JSON can hold, got {error}") from None
    for count, (where, number) in enumerate(numbers_in(kwargs, f"{arch}: kwargs")):
        check(where, number in ARGUMENT, str(ARGUMENT), number)
        check(where, count < MOST_ARGUMENTS, f"at most {MOST_ARGUMENTS} numbers", "more")
