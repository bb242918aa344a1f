"""A model from elsewhere, described as zoo's own are: weights, spec, where it is from.

Files are read as tensors alone: safetensors, or PyTorch's format with `weights_only`.
"""

from __future__ import annotations

import dataclasses
import math
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
from zoo.models.build import build, count_outputs, count_parameters, head_of, remove_head
from zoo.models.checkpoint import (
    Checkpoint,
    Weights,
    check_head,
    match_names,
    read_checkpoint,
    resampled,
)
from zoo.models.consistency import own_buffers
from zoo.models.files import check_no_nan
from zoo.models.huggingface import create_hf, hf_origin, hf_preprocessing
from zoo.models.pretrained import (
    FOLDER,
    TORCHVISION_KWARGS,
    blank_timm,
    check_names,
    create_timm,
    create_torchvision,
    numbered,
    timm_data,
    timm_origin,
    timm_spec,
    torchvision_weights,
)
from zoo.models.spec import ModelSpec

FORMS = "timm:NAME, local-dir:FOLDER, torchvision:NAME, hf:NAME or package.module:factory"
SIZES = {"img_size", "num_classes", "in_chans"}  # of a network; they follow from the spec
IMAGENET_SIZE, IMAGENET_RESIZED = 224, 256
POSITIONS = "encoder.pos_embedding"  # of torchvision's ViT
PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}  # pixels from 0 to 1 as they are
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclass(frozen=True)
class ImportOptions:
    """What the user says of a model; what is left open follows from its source.

    `key` and `prefix` choose among the weights of a file; `no_head` leaves out its classifier, if
    it has one, and the network's.
    """

    weights: Path | None = None
    key: str = ""
    prefix: str = ""
    no_head: bool = False
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
        source: `timm:NAME`, `local-dir:FOLDER` (with timm's config.json), `torchvision:NAME`,
            `hf:NAME` (or a folder) or `package.module:factory`; NAME may have a tag of published
            weights after a dot.
        name: how it is called in the zoo.
        given: weights from a file instead of published ones, and what no source says.

    Raises:
        UserError: no such model, weights that are missing or do not fit.
    """
    check_kwargs(source, given.kwargs)  # before anything is downloaded
    if given.no_head and given.class_names:
        raise UserError("a network without a classifier has no classes: leave out --classes")
    if (given.key or given.prefix) and given.weights is None:
        raise UserError("--key and --prefix say which weights of a file: name it by --weights")
    if given.no_head:
        given = dataclasses.replace(given, class_names=[])
    library, _, rest = source.partition(":")
    read = None if given.weights is None else read_checkpoint(given.weights, given.key)
    if source.startswith(FOLDER):
        imported = _from_folder(source, name, given, read)
    elif library == "timm":
        imported = _from_timm(source, name, given, read)
    elif library == "torchvision":
        imported = _from_torchvision(rest, name, given, read)
    elif library == "hf":
        imported = _from_hf(rest, name, given)
    elif factories.is_factory(source):
        imported = _from_factory(source, name, given, read)
    else:
        raise UserError(f"expected a source as {FORMS}; got {source!r}")
    check_no_nan(imported.module.state_dict(), source)
    _check_outputs(imported, source)
    notes = (*read.notes, *imported.notes) if read else imported.notes
    return dataclasses.replace(imported, notes=notes)


def _from_folder(source: str, name: str, given: ImportOptions, read: Checkpoint | None) -> Imported:
    if read is not None:
        raise UserError(f"{source}: the folder holds its weights; leave out --weights")
    module = create_timm(source, weights=None, **_timm_arguments(source, given, read))
    origin = {"source": f"{FOLDER}{Path(source).name}"} | timm_origin(module)
    own = {**_saved_arguments(source), **given.kwargs}
    return _timm_described(
        timm_spec(name, module, kwargs=own, origin=origin, **given.fields()), module
    )


def _from_timm(source: str, name: str, given: ImportOptions, read: Checkpoint | None) -> Imported:
    timm_name = source.removeprefix("timm:")
    kwargs = _timm_arguments(timm_name, given, read)
    if read is None:
        module = create_timm(timm_name, weights=None, **kwargs)
        known, notes = timm_data(module), list[str]()
    else:
        blank: Any = blank_timm(timm_name, **kwargs)
        heads = blank.pretrained_cfg.get("classifier") or ()
        heads = (heads,) if isinstance(heads, str) else tuple(heads)
        weights, notes = _fitting(read, blank.state_dict(), heads, given, source)
        module = create_timm(timm_name, weights=weights, **kwargs)
        known, notes = {}, notes + resampled(weights, module.state_dict())
    published = read is None or "." in timm_name
    origin = {"source": source} | (timm_origin(module) if published else {}) | _origin(given, read)
    known |= given.fields()
    spec = timm_spec(name, module, kwargs=dict(given.kwargs), origin=origin, **known)
    return _timm_described(spec, module, notes)


def _timm_arguments(
    timm_name: str, given: ImportOptions, read: Checkpoint | None
) -> dict[str, Any]:
    kwargs = dict(given.kwargs)
    if given.no_head or (read is not None and given.class_names is not None):
        kwargs["num_classes"] = len(given.class_names or ())
    if given.image_size is not None and _has_fixed_size(timm_name):
        kwargs["img_size"] = given.image_size
    return kwargs


def _timm_described(spec: ModelSpec, module: Any, notes: Sequence[str] = ()) -> Imported:
    mode = module.pretrained_cfg.get("crop_mode", "center")
    if mode == "center":
        return Imported(module, spec, tuple(notes))
    note = f"its crop mode {mode!r} differs from zoo's centre crop on images that are not square"
    return Imported(module, spec, (*notes, note))


def _fitting(
    read: Checkpoint,
    expected: Mapping[str, torch.Tensor],
    heads: tuple[str, ...],
    given: ImportOptions,
    what: str,
) -> tuple[Weights, list[str]]:
    """Return a file's weights by a network's names, and notes on what was left out."""
    weights, notes = match_names(read, expected, given.prefix)
    if given.no_head:
        ends = tuple(f"{head}." for head in heads)
        weights = {k: tensor for k, tensor in weights.items() if not k.startswith(ends)}
    check_head(read, weights, expected, heads, what)
    return weights, notes


def _has_fixed_size(timm_name: str) -> bool:
    import timm

    config = None if timm_name.startswith(FOLDER) else timm.get_pretrained_cfg(timm_name)
    return bool(config and config.fixed_input_size)


def _saved_arguments(folder: str) -> dict[str, Any]:
    """Return the network's own arguments from timm's config.json; sizes follow from the rest."""
    saved = read_json(Path(folder.removeprefix(FOLDER)) / "config.json").get("model_args", {})
    return {k: v for k, v in saved.items() if k not in SIZES}


def _from_torchvision(
    rest: str, name: str, given: ImportOptions, read: Checkpoint | None
) -> Imported:
    model, _, tag = rest.partition(".")
    published = torchvision_weights(model, tag)
    transforms, categories = published.transforms(), list(published.meta["categories"])
    origin = {"source": f"torchvision:{model}.{published.name}", "url": published.url}
    notes = []
    if read is not None and not tag:
        origin = {"source": f"torchvision:{model}"}
        size, resized, like, interpolation = IMAGENET_SIZE, IMAGENET_RESIZED, IMAGENET, "bilinear"
        notes.append(
            f"the weights do not say how images are preprocessed: taken as for ImageNet ({size} of "
            f"{resized} px, its mean and std) where --image-size, --mean and --std do not say it, "
            f"nor the name of published weights (torchvision:{model}.{published.name})"
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
    if read is None:
        module = create_torchvision(model, published, **kwargs)
        module = remove_head(module) if given.no_head else module
    else:
        whole = build(arch, classes=classes or 1, image_size=known["image_size"], **kwargs)
        head = (head_of(whole),)
        module = whole if classes else remove_head(whole)
        weights, told = _fitting(read, module.state_dict(), head, given, arch)
        if model in TORCHVISION_KWARGS:
            weights = {k: v for k, v in weights.items() if not k.lower().startswith("aux")}
        fitted = _on_its_grid(weights, module)
        _load(module, fitted, arch)
        notes += told + resampled(weights, fitted)
    known |= {"arch": arch, "kwargs": kwargs, "origin": origin | _origin(given, read)}
    return _described(name, module, known, notes)


def _described(
    name: str, module: nn.Module, known: Mapping[str, Any], notes: Sequence[str]
) -> Imported:
    spec = ModelSpec(name=name, parameters=count_parameters(module), **known)
    return Imported(module.eval(), spec, tuple(notes))


def _from_hf(rest: str, name: str, given: ImportOptions) -> Imported:
    if given.weights is not None or given.kwargs:
        raise UserError(f"hf:{rest} brings its weights and its arguments: no --weights, --kwarg")
    module, known = create_hf(rest, no_head=given.no_head)
    seen, notes = hf_preprocessing(rest)
    if not seen and given.image_size is None:
        raise UserError(f"hf:{rest}: {notes[0]}")
    known = PLAIN | known | seen | given.fields() | {"origin": hf_origin(rest)}
    return _described(name, module, known, notes)


def _on_its_grid(weights: Weights, module: nn.Module) -> Weights:
    """Return weights with the position embeddings of torchvision's ViT on the network's grid."""
    from timm.layers import resample_abs_pos_embed

    given, own = weights.get(POSITIONS), module.state_dict().get(POSITIONS)
    if given is None or own is None or given.shape == own.shape:
        return weights
    side = math.isqrt(own.shape[1] - 1)
    return weights | {POSITIONS: resample_abs_pos_embed(given, [side, side])}


def _from_factory(
    source: str, name: str, given: ImportOptions, read: Checkpoint | None
) -> Imported:
    factories.import_factory(source)  # nobody should look for weights of what is not there
    if given.image_size is None:
        raise UserError(f"{source}: expected --image-size with a factory or loader of your own")
    if given.no_head:
        raise UserError(f"{source}: leave the classifier out in your own code, not by --no-head")
    names = given.class_names or ()
    size = given.image_size
    module = factories.call_factory(source, given.kwargs, classes=len(names), image_size=size)
    notes = []
    if read is None:
        again = factories.call_factory(source, given.kwargs, classes=len(names), image_size=size)
        if not _are_equal(module, again):
            raise UserError(
                f"{source} returns other weights each time, as an untrained network has: expected "
                "a network with its weights loaded, or a file of them by --weights"
            )
        notes.append(f"its weights are those that {source} returns")
    else:
        weights, notes = _fitting(read, module.state_dict(), (), given, source)
        _load(module, weights, source)
    if given.mean is None or given.std is None:
        notes.append("pixels are scaled to 0..1 alone where no --mean or --std is given")
    if given.class_names is None:
        names = numbered(_outputs(module, size, source))
    origin = {"source": source} | factories.package_version(source) | _origin(given, read)
    known = PLAIN | given.fields() | {"class_names": list(names), "origin": origin}
    return _described(name, module, known | {"arch": source, "kwargs": dict(given.kwargs)}, notes)


def _are_equal(module: nn.Module, other: nn.Module) -> bool:
    mine, theirs = module.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def _load(module: nn.Module, weights: Weights, what: str) -> None:
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit {what} ({brief(error)})") from None


def _origin(given: ImportOptions, read: Checkpoint | None) -> dict[str, str]:
    if read is None:
        return {}
    said = {"weights_key": read.key, "weights_prefix": given.prefix}
    return {"weights_sha256": sha256(read.path)} | {k: v for k, v in said.items() if v}


def _check_outputs(imported: Imported, source: str) -> None:
    spec = imported.spec
    check_names(spec.class_names, _outputs(imported.module, spec.image_size, source), source)


def _outputs(module: nn.Module, image_size: int, source: str) -> int:
    with own_buffers([module]):
        return count_outputs(module, image_size, source)
