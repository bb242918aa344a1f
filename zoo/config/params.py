"""The whole of params.yaml: data, models, the study and how it is compared."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path
from typing import Annotated, NamedTuple

import yaml

from zoo.config.comparing import CompareConfig
from zoo.config.limits import COUNT, LEARNING_RATE, SEED, SIDE, check
from zoo.config.mapping import Range, check_ranges, from_mapping, parse_yaml
from zoo.config.training import ModelConfig, TrainConfig
from zoo.errors import UserError, unknown
from zoo.files import read_text

# The registry's rule (zoo.registry.references); models and subsets become folders, too, whose names
# may not be longer than 255 characters. A dot in a key such as models.vit is DVC's next level.
STUDY, MODEL, SUBSET = (
    re.compile(rf"[A-Za-z0-9][A-Za-z0-9{others}-]{{0,63}}") for others in ("_", "_+", "._+")
)
FEW = "at most 64 of A-Z, a-z, 0-9,"


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how they are split."""

    source: str
    root: str
    image_size: Annotated[int, SIDE]
    validation: Annotated[float, Range(0, 0.99, above=True)]
    seed: Annotated[int, SEED]
    max_array_gb: Annotated[float, Range(0, 1e6, "GB")] = 10

    def __post_init__(self) -> None:
        check_ranges(self, "data.")


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
            check("study.name", STUDY.fullmatch(self.name) is not None, f"{FEW} _ -", self.name)
        for name in ("models", "subsets", "seeds"):
            values = getattr(self, name)
            check(f"study.{name}", bool(values), "one or more", values)
            check(f"study.{name}", len(set(values)) == len(values), "each of them once", values)
        check_ranges(self, "study.")


@dataclass(frozen=True)
class Published:
    """An accuracy (0 to 1) that others report, to stand beside the study's own."""

    model: str
    images: Annotated[int, COUNT]
    accuracy: Annotated[float, Range(0, 1)]
    source: str

    def __post_init__(self) -> None:
        check_ranges(self, "gap.published.")


@dataclass(frozen=True)
class GapConfig:
    """The gap study: which networks stand at its ends, and how learning rates are tuned.

    `baseline` is the ViT that falls behind. The CNN it falls behind is the one of `references`
    that is best by validation. Each key of `tuned` has its learning rate chosen among
    `learning_rates` by validation, on a draw of images of its own (`tuning_seed`); the models that
    stand beside it take the same one. Those that are `untuned` keep that of their recipe.
    `published` numbers stand below the table.
    """

    baseline: str
    references: list[str]
    learning_rates: Annotated[list[float], LEARNING_RATE]
    tuned: dict[str, list[str]]
    tuning_subset: str
    tuning_seed: Annotated[int, SEED]
    test_images: Annotated[int, COUNT]
    untuned: list[str] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_ranges(self, "gap.")
        check("gap.references", bool(self.references), "one or more", self.references)
        rates = bool(self.learning_rates) or not self.tuned
        check("gap.learning_rates", rates, "one or more (gap.tuned names models)", [])

    def tuned_as(self, model: str) -> str | None:
        """Return the model whose learning rate a model takes; None for one that is not tuned."""
        if model in self.untuned:
            return None
        for leader, others in self.tuned.items():
            if model == leader or model in others:
                return leader
        raise UserError(f"gap.tuned: {model!r} is not in it; add it there, or to gap.untuned")

    def check(self, study: StudyConfig) -> None:
        """Raise `UserError` for a name that the study does not train."""
        named = [self.baseline, *self.references, *self.tuned, *self.untuned]
        _check_known("gap entry (not in study.models)", named, study.models)
        for model in study.models:
            self.tuned_as(model)
        _check_known("gap.tuning_subset", [self.tuning_subset], study.subsets)
        fresh = self.tuning_seed not in study.seeds
        check("gap.tuning_seed", fresh, "none of study.seeds", self.tuning_seed)


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
            check("models", MODEL.fullmatch(name) is not None, f"{FEW} _ + -", name)
        for name in self.subsets:
            check("subsets", SUBSET.fullmatch(name) is not None, f"{FEW} . _ + -", name)
        _check_apart("subsets", ["validation", "test", *self.subsets])
        _check_apart("models and subsets", [f"{m}-{s}" for m in self.models for s in self.subsets])
        _check_apart("compare.pairs", ["__".join(pair) for pair in self.compare.pairs])
        check_ranges(self)
        for name, size in self.subsets.items():
            fit = size == "all" if isinstance(size, str) else True
            check(f"subsets.{name}", fit, f"{COUNT}, or all", size)
        what = "study.models entry (add it under `models` first)"
        _check_known(what, self.study.models, self.models)
        _check_known("study.subsets entry", self.study.subsets, self.subsets)
        trained = {variant.name for variant in self.variants}
        what = "compare.pairs entry (no variant of `study`)"
        own = [name for name in chain(*self.compare.pairs) if not is_published(name)]
        _check_known(what, own, trained)
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


def is_published(name: str) -> bool:
    """Whether an entry of `compare.pairs` names a library's weights: no variant has a colon.

    >>> is_published("timm:resnet18.a1_in1k"), is_published("resnet18-small")
    (True, False)
    """
    return ":" in name


def load_params(path: Path) -> Params:
    """Read and check params.yaml; raise `UserError` with the key that is wrong."""
    try:
        content = parse_yaml(read_text(path))
    except FileNotFoundError:
        raise UserError(f"no {path}: run this in the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML in UTF-8: {error}") from None
    return from_mapping(Params, content, str(path))


def _check_known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown(what, name, known)


def _check_apart(where: str, names: Sequence[str]) -> None:
    """Raise `UserError` where two names are the same on a disk that ignores case."""
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise UserError(
                f"{where}: {seen[name.lower()]!r} and {name!r} would share a folder: expected "
                "names that differ by more than case; rename one"
            )
        seen[name.lower()] = name
