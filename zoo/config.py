"""What params.yaml and a comparison's settings hold, each section checked as it is made."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import UserError, unknown
from zoo.mapping import from_mapping

SCHEDULES = ("cosine", "constant")
OPTIMIZERS = ("adam", "adamw", "sgd")
PRECISIONS = ("auto", "bf16", "float32")
POOLS = ("flatten", "gap", "cls", "tokens")
SEEDS = range(2**32)  # NumPy takes no others
# The registry's rule (zoo.registry.references); models and subsets become folders, too.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# Arguments of a network that follow from the data, change its head, or read files or the network.
RESERVED = {
    *("arch", "classes", "image_size", "img_size", "in_chans", "num_classes"),
    *("features_only", "feature_cfg", "out_indices", "cache_dir", "checkpoint_path"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
}


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how they are split."""

    source: str
    root: str
    image_size: int
    validation: float
    seed: int

    def __post_init__(self) -> None:
        _check("data.image_size", self.image_size >= 4, "at least 4 pixels", self.image_size)
        _check("data.validation", 0 < self.validation < 1, "between 0 and 1", self.validation)
        _check("data.seed", self.seed in SEEDS, "0 to 4294967295", self.seed)


@dataclass(frozen=True)
class TrainConfig:
    """How a variant is trained; every variant can override any of it."""

    epochs: int | dict[str, int]
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    crop_padding: int = 0
    flip: bool = False
    normalise: bool = True
    label_smoothing: float = 0.0
    precision: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        counts = self.epochs.values() if isinstance(self.epochs, dict) else [self.epochs]
        for count in counts:
            _check("train.epochs", count >= 1, "at least 1", count)
        _check("train.batch_size", self.batch_size >= 1, "at least 1", self.batch_size)
        _check("train.learning_rate", self.learning_rate > 0, "above 0", self.learning_rate)
        _check("train.weight_decay", self.weight_decay >= 0, "0 or more", self.weight_decay)
        _check("train.warmup_epochs", self.warmup_epochs >= 0, "0 or more", self.warmup_epochs)
        _check("train.crop_padding", self.crop_padding >= 0, "0 or more", self.crop_padding)
        smooth = self.label_smoothing
        _check("train.label_smoothing", 0 <= smooth <= 1, "0 to 1", smooth)
        _check("train.threads", self.threads >= 0, "0 (all cores) or more", self.threads)
        _check_one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        _check_one_of("train.schedule", self.schedule, SCHEDULES)
        _check_one_of("train.precision", self.precision, PRECISIONS)

    def epochs_on(self, subset: str) -> int:
        """Return how many passes to make over a subset."""
        if isinstance(self.epochs, int):
            return self.epochs
        if subset not in self.epochs:
            raise UserError(
                f"train.epochs has no entry for the subset {subset!r}: "
                f"give one number for all subsets or add it (there: {', '.join(self.epochs)})"
            )
        return self.epochs[subset]


@dataclass(frozen=True)
class ModelConfig:
    """One architecture of the zoo: its name, its arguments and its own training settings."""

    arch: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kwargs(self.arch, self.kwargs)


@dataclass(frozen=True)
class StudyConfig:
    """What the pipeline trains: every model on every subset with every seed."""

    models: list[str]
    subsets: list[str]
    seeds: list[int]

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            _check(f"study.{name}", bool(values), "one or more", values)
            _check(f"study.{name}", len(set(values)) == len(values), "each of them once", values)
        fit = all(seed in SEEDS for seed in self.seeds)
        _check("study.seeds", fit, "each 0 to 4294967295", self.seeds)


@dataclass(frozen=True)
class CompareConfig:
    """What the pipeline compares, and how."""

    pairs: list[list[str]]
    images: int
    batch_size: int
    layers: str = "blocks"
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for pair in self.pairs:
            _check("compare.pairs", len(pair) >= 2, "two or more names in each entry", pair)
        _check("compare.images", self.images >= 4, "at least 4", self.images)
        _check("compare.batch_size", self.batch_size >= 4, "at least 4", self.batch_size)
        check_layers(self.layers)


@dataclass(frozen=True)
class Settings:
    """How a comparison is made: everything here decides its numbers and enters its digest.

    `pool` chooses what of a layer is compared: `flatten` (all of it), `gap` (its mean over
    places), `cls` (the class token), `tokens` (all of it but class and register tokens).
    """

    batch_size: int = 128
    layers: str = "blocks"
    pool: str = "flatten"
    shown_images: int = 6
    references: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_layers(self.layers)
        _check("pool", self.pool in POOLS, f"one of {', '.join(POOLS)}", self.pool)
        _check("batch_size", self.batch_size >= 4, "at least 4", self.batch_size)
        _check("shown_images", self.shown_images >= 1, "at least 1", self.shown_images)
        _check("seed", self.seed in SEEDS, "0 to 4294967295", self.seed)


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    data: DataConfig
    subsets: dict[str, int | str]
    models: dict[str, ModelConfig]
    study: StudyConfig
    train: TrainConfig
    compare: CompareConfig

    def __post_init__(self) -> None:
        for name in [*self.models, *self.subsets]:
            _check("models, subsets", NAME.fullmatch(name) is not None, "A-Z, a-z, 0-9, ._+-", name)
        for name, size in self.subsets.items():
            fit = size == "all" if isinstance(size, str) else size >= 1
            _check(f"subsets.{name}", fit, "1 or more images, or all", size)
        for model in self.study.models:
            if model not in self.models:
                raise unknown(
                    "study.models entry (add it under `models` first)", model, self.models
                )
        for subset in self.study.subsets:
            if subset not in self.subsets:
                raise unknown("study.subsets entry", subset, self.subsets)
        trained = {f"{model}-{subset}" for model, subset, _ in self.variants}
        for name in (name for pair in self.compare.pairs for name in pair):
            if name not in trained:
                raise unknown("compare.pairs entry (no variant of `study`)", name, trained)
        for model in self.models:
            config = self.train_config(model)
            for subset in self.study.subsets if model in self.study.models else ():
                config.epochs_on(subset)

    @property
    def variants(self) -> list[tuple[str, str, int]]:
        """Every (model, subset, seed) that the pipeline trains, in its order."""
        study = self.study
        return [(m, s, seed) for m in study.models for s in study.subsets for seed in study.seeds]

    def train_config(self, model: str) -> TrainConfig:
        """Return the training settings of one model: its own laid over the common ones."""
        if model not in self.models:
            raise unknown("model (no entry under `models` in params.yaml)", model, self.models)
        settings = dataclasses.asdict(self.train) | self.models[model].train
        return from_mapping(TrainConfig, settings, f"models.{model}.train")


def check_layers(selection: str) -> str:
    """Return a choice of layers, or raise `UserError` where it is no regular expression."""
    try:
        re.compile(selection)
    except re.error as error:
        raise UserError(
            f"layers: expected 'blocks', 'all' or a regular expression, got {selection!r}: {error}"
        ) from None
    return selection


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


def load_params(path: Path) -> Params:
    """Read and check params.yaml; raise `UserError` with the key that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {path}: run this in the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML in UTF-8: {error}") from None
    return from_mapping(Params, content, str(path))


def _check(where: str, holds: bool, expected: str, value: object) -> None:
    if not holds:
        raise UserError(f"{where}: expected {expected}, got {value!r}")


def _check_one_of(where: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise unknown(where, value, valid)
