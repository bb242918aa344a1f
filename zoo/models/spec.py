"""The description of a model that, with its weights, is all that is kept of it."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from zoo.config import SIDE, check_kwargs
from zoo.config.mapping import Range, check_ranges, from_mapping
from zoo.errors import UserError, counted
from zoo.files import read_json, sha256

WEIGHTS, SPEC = "model.safetensors", "spec.json"
SPEC_KEYS = ("arch", "image_size", "class_names")  # by which a spec.json is known as zoo's
NO_SKIP = re.compile(r"^(?P<arch>.+)-noskip(?P<block>\d{1,4})$")
SHUFFLED = re.compile(r"^(?P<arch>.+)-shuffled(?P<pixels>\d{1,4})$")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")


def plain_arch(arch: str) -> str:
    """Return an architecture's name without what makes it a control: `-noskip<i>`, `-shuffled<t>`.

    A control lacks one thing on purpose, to show what it is good for.
    """
    while match := NO_SKIP.match(arch) or SHUFFLED.match(arch):
        arch = match["arch"]
    return arch


@dataclass(frozen=True)
class ModelSpec:
    """How to build a model and how to feed it.

    `mean` and `std` are a channel's, for pixels scaled to 0..1. `crop_fraction` is the side of
    the centre crop over the side of the resized image (1.0: nothing is cropped away). `origin`
    says where an imported model is from: `source`, and where known `url`, `licence`,
    `weights_sha256`, `package` and its `version`. `lineage` names the models that its training
    started from (`start`) and learnt from (`teacher`), each with the digest of its files.
    """

    name: str
    arch: str
    image_size: Annotated[int, Range(1, SIDE.high, "pixels")]
    class_names: list[str]
    mean: list[float]
    std: list[float]
    kwargs: dict[str, Any] = field(default_factory=dict)
    interpolation: str = "bicubic"
    crop_fraction: Annotated[float, Range(0, 1, above=True)] = 1.0
    source: str = ""
    subset: str = ""
    subset_count: int = 0
    subset_digest: str = ""
    validation_digest: str = ""
    test_digest: str = ""
    test_count: int = 0
    seed: int = 0
    parameters: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    lineage: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kwargs(self.arch, self.kwargs)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std, default=0) <= 0:
            raise UserError(
                f"spec of {self.name!r}: expected 3 means and 3 positive standard deviations, "
                f"got {self.mean} and {self.std}"
            )
        if not all(0 <= mean <= 1 for mean in self.mean):
            raise UserError(
                f"spec of {self.name!r}: expected means of pixels scaled to 0..1, got {self.mean}; "
                "divide means and standard deviations of 0..255 by 255"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"spec of {self.name!r}: expected interpolation in {INTERPOLATIONS}, "
                f"got {self.interpolation!r}"
            )
        check_ranges(self, f"spec of {self.name!r}: ")

    @property
    def known_seed(self) -> int | None:
        """The seed it was trained with; None where zoo imported it and did not train it."""
        return None if self.origin and not self.training else self.seed

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        return dataclasses.asdict(self)


def read_spec(path: Path) -> ModelSpec:
    """Read `spec.json`; unknown keys, missing keys and wrong types are `UserError`s."""
    content = read_json(path)
    try:
        return from_mapping(ModelSpec, content, str(path))
    except UserError as error:
        if str(path) in str(error):
            raise
        # What a spec checks itself names no file: it is also made where there is none.
        raise UserError(f"{path} does not describe a model: {error}") from None


def describe_training(spec: ModelSpec) -> str:
    """Say how long and how a model was trained; nothing where that is not known."""
    known = spec.training
    epochs, batch, rate = (known.get(key, 0) for key in ("epochs", "batch_size", "learning_rate"))
    # A stranger's spec may say anything.
    counts = all(type(n) is int and n > 0 for n in (epochs, batch))
    if not (counts and isinstance(rate, int | float) and 0 < rate < math.inf):
        return ""
    steps, decay = training_steps(spec), known.get("weight_decay")
    changed = ("crop_padding", "flip", "augment", "mixup", "cutmix", "label_smoothing", "ema")
    said = [
        counted(epochs, "epoch") + (f" ({counted(steps, 'step')})" if steps else ""),
        f"batches of {batch}",
        f"{known.get('optimizer', 'optimizer not known')}, learning rate {rate:g}",
        *([f"weight decay {decay:g}"] if isinstance(decay, int | float) and decay > 0 else []),
        *(["cosine schedule"] if known.get("schedule") == "cosine" else []),
        *(key.replace("_", " ") for key in changed if known.get(key)),
    ]
    return ", ".join(said)


def training_steps(spec: ModelSpec) -> int:
    """Return how many steps of the optimiser a model was trained for; 0 where it is not known."""
    known = spec.training
    steps, epochs, batch = (known.get(key, 0) for key in ("steps", "epochs", "batch_size"))
    # A stranger's spec may say anything.
    if type(steps) is int and steps > 0:
        return steps
    if not all(type(n) is int and n > 0 for n in (epochs, batch)):
        return 0
    return int(epochs * math.ceil(spec.subset_count / batch))  # older specs hold none


def model_digest(folder: Path) -> str:
    """Return the sha256 over spec and weights: the identity of a model everywhere in zoo."""
    for name in (SPEC, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is not a model: expected {SPEC} and {WEIGHTS}, {name} is missing"
            )
    return sha256(folder / SPEC, folder / WEIGHTS)
