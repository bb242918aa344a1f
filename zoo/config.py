"""What params.yaml and a comparison's settings hold, each section checked as it is made."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml

from zoo.errors import UserError, shown, unknown
from zoo.files import read_text
from zoo.mapping import Range, check_ranges, from_mapping, numbers_in, parse_yaml

SCHEDULES = ("cosine", "constant")
OPTIMIZERS = ("adam", "adamw", "sgd")
KEEP = ("last", "best")
PRECISIONS = ("auto", "bf16", "float32")
POOLS = ("flatten", "gap", "cls", "tokens")
# What several settings and options share; the others declare theirs where they stand.
SEED = Range(0, 2**32 - 1)  # NumPy takes no others
SIDE = Range(4, 4096, "pixels")
COUNT = Range(1, 2**31 - 1, "images")
EPOCHS = Range(1, 100_000)
STEPS = Range(0, 100_000_000, "steps")
BATCH = Range(1, 65_536, "images")
COMPARED_COUNT = Range(4, COUNT.high, "images")
COMPARED_BATCH = Range(4, 65_536, "images")  # the unbiased estimator of CKA needs four
CLASSES = Range(0, 100_000)
ARGUMENT, MOST_ARGUMENTS = Range(-100_000, 100_000), 1000  # numbers among a network's kwargs
LEARNING_RATE = Range(0, 1000, above=True)
# The registry's rule (zoo.registry.references); models and subsets become folders, too, whose names
# may not be longer than 255 characters. A dot in a key such as models.vit is DVC's next level.
STUDY, MODEL, SUBSET = (
    re.compile(rf"[A-Za-z0-9][A-Za-z0-9{others}-]{{0,63}}") for others in ("_", "_+", "._+")
)
FEW = "at most 64 of A-Z, a-z, 0-9,"
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
    image_size: Annotated[int, SIDE]
    validation: Annotated[float, Range(0, 0.99, above=True)]
    seed: Annotated[int, SEED]

    def __post_init__(self) -> None:
        check_ranges(self, "data.")


@dataclass(frozen=True)
class TrainConfig:
    """How a variant is trained; every variant can override any of it.

    Its length is either `epochs` (passes over the subset) or `steps` (of the optimizer, the same
    on every subset). `mixup` and `cutmix` are the alphas of their Beta distributions, `augment` a
    policy of timm (`rand-m9-mstd0.5-inc1`, `original`), `random_erasing` a probability, `ema` a
    decay and `clip_norm` the largest norm of the gradient; 0 or "" leaves each of them out.
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
    threads: Annotated[int, Range(0, 1024, "(0: all cores)")] = 0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps == 0):
            raise UserError(
                "train: expected either epochs or steps (above 0), "
                f"got epochs {self.epochs} and steps {self.steps}"
            )
        check_ranges(self, "train.")
        both = self.warmup_epochs and self.warmup_steps
        _check("train", not both, "warmup_epochs or warmup_steps, one of them 0", "both above 0")
        _check_one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        _check_one_of("train.schedule", self.schedule, SCHEDULES)
        _check_one_of("train.keep", self.keep, KEEP)
        _check_one_of("train.precision", self.precision, PRECISIONS)

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


@dataclass(frozen=True)
class StudyConfig:
    """What the pipeline trains: every model on every subset with every seed.

    `name` keeps studies on one server apart: `vit-small` of the study `flowers` is registered as
    `flowers.vit-small`; without a name as `vit-small`.
    """

    models: list[str]
    subsets: list[str]
    seeds: Annotated[list[int], SEED]
    name: str = ""

    def __post_init__(self) -> None:
        if self.name:
            _check("study.name", STUDY.fullmatch(self.name) is not None, f"{FEW} _ -", self.name)
        for name in ("models", "subsets", "seeds"):
            values = getattr(self, name)
            _check(f"study.{name}", bool(values), "one or more", values)
            _check(f"study.{name}", len(set(values)) == len(values), "each of them once", values)
        check_ranges(self, "study.")


@dataclass(frozen=True)
class CompareConfig:
    """What the pipeline compares, and how."""

    pairs: list[list[str]]
    images: Annotated[int, COMPARED_COUNT]
    batch_size: Annotated[int, COMPARED_BATCH]
    layers: str = "blocks"
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for pair in self.pairs:
            _check("compare.pairs", len(pair) >= 2, "two or more names in each entry", pair)
        check_ranges(self, "compare.")
        check_layers(self.layers)


@dataclass(frozen=True)
class GapConfig:
    """The gap study: which networks stand at its ends, and how learning rates are tuned.

    `baseline` is the ViT that falls behind. The CNN it falls behind is the one of `references`
    that is best by validation. Each key of `tuned` has its learning rate chosen among
    `learning_rates` by validation, on a draw of images of its own (`tuning_seed`); the models that
    stand beside it take the same one.
    """

    baseline: str
    references: list[str]
    learning_rates: Annotated[list[float], LEARNING_RATE]
    tuned: dict[str, list[str]]
    tuning_subset: str
    tuning_seed: Annotated[int, SEED]
    test_images: Annotated[int, COUNT]

    def __post_init__(self) -> None:
        check_ranges(self, "gap.")
        for name in ("references", "learning_rates", "tuned"):
            _check(f"gap.{name}", bool(getattr(self, name)), "one or more", getattr(self, name))

    def tuned_as(self, model: str) -> str:
        """Return the model whose learning rate a model takes."""
        for leader, others in self.tuned.items():
            if model == leader or model in others:
                return leader
        raise UserError(f"gap.tuned: {model!r} is neither tuned nor beside one that is; add it")

    def check(self, study: StudyConfig) -> None:
        """Raise `UserError` for a name that the study does not train."""
        for model in [self.baseline, *self.references, *self.tuned]:
            if model not in study.models:
                raise unknown("gap entry (not in study.models)", model, study.models)
        for model in study.models:
            self.tuned_as(model)
        if self.tuning_subset not in study.subsets:
            raise unknown("gap.tuning_subset", self.tuning_subset, study.subsets)
        fresh = self.tuning_seed not in study.seeds
        _check("gap.tuning_seed", fresh, "none of study.seeds", self.tuning_seed)


@dataclass(frozen=True)
class Settings:
    """How a comparison is made: everything here decides its numbers and enters its digest.

    `pool` chooses what of a layer is compared: `flatten` (all of it), `gap` (its mean over
    places), `cls` (the class token), `tokens` (all of it but class and register tokens).
    """

    batch_size: Annotated[int, COMPARED_BATCH] = 128
    layers: str = "blocks"
    pool: str = "flatten"
    shown_images: Annotated[int, Range(1, 100, "images")] = 6
    references: bool = True
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        check_layers(self.layers)
        _check("pool", self.pool in POOLS, f"one of {', '.join(POOLS)}", self.pool)
        check_ranges(self)


class Variant(NamedTuple):
    """One architecture, trained on one subset with one seed.

    `name` is registered (`vit-small`), each seed is a version of it; `key` names its folder.
    """

    model: str
    subset: str
    seed: int

    @property
    def name(self) -> str:
        """Return the registered name."""
        return f"{self.model}-{self.subset}"

    @property
    def key(self) -> str:
        """Return the name with the seed."""
        return variant_key(self.name, self.seed)

    def fill(self, reference: str) -> str:
        """Return a reference to a model with this variant's subset and seed in their places.

        >>> Variant("vit", "small", 3).fill("models/resnet18-{subset}-{seed}")
        'models/resnet18-small-3'
        """
        return reference.replace("{subset}", self.subset).replace("{seed}", str(self.seed))


def variant_key(name: str, seed: int) -> str:
    """Return what the folder, the training run and the receipt's entry of a variant are called.

    >>> variant_key("vit-small", 0)
    'vit-small-0'
    """
    return f"{name}-{seed}"


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    data: DataConfig
    subsets: Annotated[dict[str, int | str], COUNT]
    models: dict[str, ModelConfig]
    study: StudyConfig
    train: TrainConfig
    compare: CompareConfig
    gap: GapConfig | None = None

    def __post_init__(self) -> None:
        for name in self.models:
            _check("models", MODEL.fullmatch(name) is not None, f"{FEW} _ + -", name)
        for name in self.subsets:
            _check("subsets", SUBSET.fullmatch(name) is not None, f"{FEW} . _ + -", name)
        _check_apart("subsets", ["validation", "test", *self.subsets])
        _check_apart("models and subsets", [f"{m}-{s}" for m in self.models for s in self.subsets])
        _check_apart("compare.pairs", ["__".join(pair) for pair in self.compare.pairs])
        check_ranges(self)
        for name, size in self.subsets.items():
            fit = size == "all" if isinstance(size, str) else True
            _check(f"subsets.{name}", fit, f"{COUNT}, or all", size)
        for model in self.study.models:
            if model not in self.models:
                raise unknown(
                    "study.models entry (add it under `models` first)", model, self.models
                )
        for subset in self.study.subsets:
            if subset not in self.subsets:
                raise unknown("study.subsets entry", subset, self.subsets)
        trained = {variant.name for variant in self.variants}
        for name in (name for pair in self.compare.pairs for name in pair):
            if name not in trained:
                raise unknown("compare.pairs entry (no variant of `study`)", name, trained)
        for model in self.models:
            config = self.train_config(model)
            for subset in self.study.subsets if model in self.study.models else ():
                config.epochs_on(subset)
        if self.gap:
            self.gap.check(self.study)

    @property
    def variants(self) -> list[Variant]:
        """Every variant that the pipeline trains, in its order."""
        study = self.study
        return list(map(Variant._make, product(study.models, study.subsets, study.seeds)))

    @property
    def registered_names(self) -> dict[str, str]:
        """Return the names in the registry of all that the study may train, by its own names."""
        prefix = f"{self.study.name}." if self.study.name else ""
        names = [f"{model}-{subset}" for model in self.models for subset in self.subsets]
        return {name: f"{prefix}{name}" for name in names}

    def train_config(self, model: str) -> TrainConfig:
        """Return the training settings of one model: its own laid over the common ones."""
        if model not in self.models:
            raise unknown("model (no entry under `models` in params.yaml)", model, self.models)
        own, common = self.models[model].train, dataclasses.asdict(self.train)
        # Two ways to say one thing: a model's own way replaces the common one.
        for one, other, absent in (("epochs", "steps", None), ("warmup_epochs", "warmup_steps", 0)):
            common |= ({one: absent} if other in own else {}) | ({other: 0} if one in own else {})
        settings = common | own
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
    for count, (where, number) in enumerate(numbers_in(kwargs, f"{arch}: kwargs")):
        _check(where, number in ARGUMENT, str(ARGUMENT), number)
        _check(where, count < MOST_ARGUMENTS, f"at most {MOST_ARGUMENTS} numbers", "more")


def load_params(path: Path) -> Params:
    """Read and check params.yaml; raise `UserError` with the key that is wrong."""
    try:
        content = parse_yaml(read_text(path))
    except FileNotFoundError:
        raise UserError(f"no {path}: run this in the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML in UTF-8: {error}") from None
    return from_mapping(Params, content, str(path))


def _check(where: str, holds: bool, expected: str, value: object) -> None:
    if not holds:
        raise UserError(f"{where}: expected {expected}, got {shown(value)}")


def _check_apart(where: str, names: Sequence[str]) -> None:
    """Raise `UserError` where two names are one on a disk that does not tell cases apart."""
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise UserError(
                f"{where}: {seen[name.lower()]!r} and {name!r} would share a folder: expected "
                "names that differ by more than case; rename one"
            )
        seen[name.lower()] = name


def _check_one_of(where: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise unknown(where, value, valid)
