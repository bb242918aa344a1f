"""A model from elsewhere, described as zoo's own are: weights, spec, where it is from.

Files are read as tensors alone: safetensors, or PyTorch's format with `weights_only`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.config import check_kwargs
from zoo.errors import UserError, brief
from zoo.files import read_json, sha256
from zoo.models import factories
from zoo.models.build import build, count_outputs, count_parameters
from zoo.models.files import check_no_nan
from zoo.models.pretrained import (
    FOLDER,
    TORCHVISION_KWARGS,
    check_names,
    create_timm,
    create_torchvision,
    numbered,
    timm_origin,
    timm_spec,
    torchvision_weights,
)
from zoo.models.spec import ModelSpec

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
FORMS = "timm:NAME, local-dir:FOLDER, torchvision:NAME or package.module:factory"
SIZES = {"img_size", "num_classes", "in_chans"}  # of a network; they follow from the spec
IMAGENET_SIZE, IMAGENET_RESIZED = 224, 256
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclass(frozen=True)
class ImportOptions:
    """What the user says of a model; what is left open follows from its source."""

    weights: Path | None = None
    image_size: int | None = None
    class_names: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the fields of `ModelSpec` that are given."""
        names = ("image_size", "class_names", "mean", "std")
        known = {name: getattr(self, name) for name in names}
        return {k: v if k == "image_size" else list(v) for k, v in known.items() if v is not None}


@dataclass(frozen=True)
class Imported:
    """A network with its spec; `notes` say what was assumed."""

    module: nn.Module
    spec: ModelSpec
    notes: tuple[str, ...] = ()


def import_model(source: str, name: str, given: ImportOptions) -> Imported:
    """Build a model from elsewhere and describe it.

    Args:
        source: `timm:NAME`, `local-dir:FOLDER` (with timm's config.json), `torchvision:NAME`
            or `package.module:factory`; NAME may have a tag of published weights after a dot.
        name: how it is called in the zoo.
        given: weights from a file instead of published ones, and what no source says.

    Raises:
        UserError: no such model, weights that are missing or do not fit.
    """
    check_kwargs(source, given.kwargs)  # before anything is downloaded
    library, _, rest = source.partition(":")
    weights = None if given.weights is None else read_weights(given.weights)
    if source.startswith(FOLDER) or library == "timm":
        imported = _from_timm(source, name, given, weights)
    elif library == "torchvision":
        imported = _from_torchvision(rest, name, given, weights)
    elif factories.is_factory(source):
        imported = _from_factory(source, name, given, weights)
    else:
        raise UserError(f"expected a source as {FORMS}; got {source!r}")
    check_no_nan(imported.module.state_dict(), source)
    _check_outputs(imported, source)
    return imported


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of weights, with nothing in it but tensors.

    Wrappers of training programs (`state_dict`, `model`, averaged weights, `module.` before each
    name) are taken off, as timm does.

    Raises:
        UserError: another kind of file, a damaged one, or one with code in it.
    """
    from timm.models import load_state_dict

    if path.suffix not in SUFFIXES or not path.is_file():
        raise UserError(f"--weights: expected a file {', '.join(SUFFIXES)}; got {path}")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:
        # zipfile, pickle, safetensors and torch each raise their own.
        raise UserError(
            f"{path} is not a plain state_dict, or is damaged ({brief(error)}); "
            "download it again, or save only the network's state_dict"
        ) from None
    foreign = [key for key, value in weights.items() if not isinstance(value, torch.Tensor)]
    if foreign:
        raise UserError(f"{path}: expected tensors alone, got something else in {foreign[0]!r}")
    return weights


def _from_timm(
    source: str, name: str, given: ImportOptions, weights: dict[str, torch.Tensor] | None
) -> Imported:
    folder = source.startswith(FOLDER)
    if folder and weights is not None:
        raise UserError(f"{source}: the folder holds its weights; leave out --weights")
    timm_name = source if folder else source.removeprefix("timm:")
    kwargs = dict(given.kwargs)
    if weights is not None and given.class_names is not None:
        kwargs["num_classes"] = len(given.class_names)
    if given.image_size is not None and _has_fixed_size(timm_name):
        kwargs["img_size"] = given.image_size
    module = create_timm(timm_name, weights=weights, **kwargs)
    described: Any = module
    own = {**_saved_arguments(timm_name), **given.kwargs} if folder else dict(given.kwargs)
    published = folder or weights is None or "." in timm_name
    origin = {"source": f"{FOLDER}{Path(timm_name).name}" if folder else source}
    origin |= (timm_origin(module) if published else {}) | _digest(given)
    spec = timm_spec(name, module, kwargs=own, origin=origin, **given.fields())
    mode = described.pretrained_cfg.get("crop_mode", "center")
    notes = (
        [f"its crop mode {mode!r} differs from zoo's centre crop on images that are not square"]
        if mode != "center"
        else []
    )
    return Imported(module, spec, tuple(notes))


def _has_fixed_size(timm_name: str) -> bool:
    import timm

    config = None if timm_name.startswith(FOLDER) else timm.get_pretrained_cfg(timm_name)
    return bool(config and config.fixed_input_size)


def _saved_arguments(folder: str) -> dict[str, Any]:
    """Return the network's own arguments from timm's config.json; sizes follow from the rest."""
    saved = read_json(Path(folder.removeprefix(FOLDER)) / "config.json").get("model_args", {})
    return {k: v for k, v in saved.items() if k not in SIZES}


def _from_torchvision(
    rest: str, name: str, given: ImportOptions, weights: dict[str, torch.Tensor] | None
) -> Imported:
    model, _, tag = rest.partition(".")
    published = torchvision_weights(model, tag)
    transforms, categories = published.transforms(), list(published.meta["categories"])
    origin = {"source": f"torchvision:{model}.{published.name}", "url": published.url}
    notes = []
    if weights is not None and not tag:
        origin = {"source": f"torchvision:{model}"}
        size, resized, like, interpolation = IMAGENET_SIZE, IMAGENET_RESIZED, IMAGENET, "bilinear"
        notes.append(
            f"preprocessed as for ImageNet ({size} of {resized} px, its mean and std): the "
            "weights do not say how; --image-size, --mean and --std do, or the name of published "
            f"weights: torchvision:{model}.{published.name}"
        )
    else:
        size, resized = transforms.crop_size[0], transforms.resize_size[0]
        like = {"mean": list(transforms.mean), "std": list(transforms.std)}
        interpolation = transforms.interpolation.value
    kwargs = TORCHVISION_KWARGS.get(model, {}) | dict(given.kwargs)
    defaults: dict[str, Any] = {
        "image_size": size,
        "class_names": categories,
        "crop_fraction": min(1.0, size / resized),
        "interpolation": interpolation,
        **like,
    }
    known: dict[str, Any] = defaults | given.fields()
    arch, classes = f"torchvision:{model}", len(known["class_names"])
    if weights is None:
        module = create_torchvision(model, published, **kwargs)
    else:
        module = build(arch, classes=classes, image_size=known["image_size"], **kwargs)
        if model in TORCHVISION_KWARGS:
            weights = {k: v for k, v in weights.items() if not k.lower().startswith("aux")}
        _load(module, weights, arch)
    spec = ModelSpec(
        name=name,
        arch=arch,
        kwargs=kwargs,
        parameters=count_parameters(module),
        origin=origin | _digest(given),
        **known,
    )
    return Imported(module.eval(), spec, tuple(notes))


def _from_factory(
    source: str, name: str, given: ImportOptions, weights: dict[str, torch.Tensor] | None
) -> Imported:
    factories.import_factory(source)  # nobody should look for weights of what is not there
    if weights is None or given.image_size is None:
        raise UserError(f"{source}: expected --weights and --image-size with a factory of your own")
    names = given.class_names or ()
    size = given.image_size
    module = factories.call_factory(source, given.kwargs, classes=len(names), image_size=size)
    _load(module, weights, source)
    notes = []
    if given.mean is None or given.std is None:
        notes.append("pixels are scaled to 0..1 alone where no --mean or --std is given")
    if given.class_names is None:
        names = numbered(count_outputs(module, size, source))
    known = {"mean": [0.0] * 3, "std": [1.0] * 3} | given.fields() | {"class_names": list(names)}
    spec = ModelSpec(
        name=name,
        arch=source,
        kwargs=dict(given.kwargs),
        parameters=count_parameters(module),
        origin={"source": source} | factories.package_version(source) | _digest(given),
        **known,
    )
    return Imported(module.eval(), spec, tuple(notes))


def _load(module: nn.Module, weights: dict[str, torch.Tensor], what: str) -> None:
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit {what} ({brief(error)})") from None


def _digest(given: ImportOptions) -> dict[str, str]:
    return {} if given.weights is None else {"weights_sha256": sha256(given.weights)}


def _check_outputs(imported: Imported, source: str) -> None:
    spec = imported.spec
    check_names(spec.class_names, count_outputs(imported.module, spec.image_size, source), source)
