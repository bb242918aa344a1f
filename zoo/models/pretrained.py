"""Models with published weights, by their name in timm or torchvision."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import UserError, brief, counted, unknown
from zoo.files import read_json
from zoo.models.build import count_parameters, network_errors, unknown_of_many
from zoo.models.files import LoadedModel
from zoo.models.spec import INTERPOLATIONS, ModelSpec

FOLDER = "local-dir:"
HUB = "https://huggingface.co/"
HUB_SECONDS = 5.0  # for the hub to answer at all
# What published weights were trained on first, by the part of timm's tag that says so, and how many
# images that are, by ILSVRC, ImageNet's release of 2011, and the papers of CLIP, LAION and DINO.
TRAINED_ON = {
    "in1k": 1_281_167,
    "in21k": 14_197_122,
    "in22k": 14_197_122,
    "openai": 400_000_000,
    "laion400m": 407_000_000,
    "laion2b": 2_320_000_000,
    "lvd142m": 142_109_386,
    "lvd1689m": 1_689_000_000,
}
# What torchvision's pretrained builders set beside the weights.
TORCHVISION_KWARGS = {
    name: {"transform_input": True, "aux_logits": False, "init_weights": False}
    for name in ("googlenet", "inception_v3")
}


def load_timm(name: str) -> LoadedModel:
    """Build a timm model with its published weights and its own preprocessing.

    Args:
        name: a timm name, with or without a tag: `vit_small_patch16_224.augreg_in21k`.

    Raises:
        UserError: timm has no such model or weights, or they can neither be found in the local
            cache nor downloaded.
    """
    module = create_timm(name)
    spec = timm_spec(name, module, **timm_data(module))
    return LoadedModel(name, module, spec, digest=timm_identity(name), uri=f"timm:{name}")


def create_timm(
    name: str, *, weights: Mapping[str, torch.Tensor] | None = None, **kwargs: Any
) -> nn.Module:
    """Build a timm model, in eval mode, with published weights or with those given.

    Args:
        name: a timm name with or without a tag, or `local-dir:FOLDER` with timm's `config.json`.
        weights: in the format of timm or of the model's authors, which timm converts.
        kwargs: the network's own arguments; `num_classes` is that of the weights given.

    Raises:
        UserError: no such model, or weights that are not there or do not fit.
    """
    import timm

    _check_timm_name(name, published=weights is None)
    overlay: dict[str, Any] = {}
    if weights is not None:
        overlay["state_dict"] = dict(weights)
        if "num_classes" in kwargs:
            # timm would drop a classifier that has another size than the published one.
            overlay["num_classes"] = kwargs["num_classes"]
    elif cached := _in_cache(name):
        overlay = {"file": cached, "custom_load": False}
    elif (config := _published(name)) and config.hf_hub_id:
        _check_hub(name)
    # The hub's client announces every retry; the one line at the end says it all.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        with only_tensors():
            return timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs
            ).eval()
    except Exception as error:
        # Hub clients raise many kinds of errors, of their own and of the network.
        cause = f"({brief(error)})"
        if weights is not None:
            raise UserError(f"timm:{name}: the weights do not fit it {cause}") from None
        if name.startswith(FOLDER):
            raise UserError(f"{name} holds no model of timm's {cause}") from None
        raise _not_downloaded(name, error) from None


def _not_downloaded(name: str, error: Exception) -> UserError:
    return UserError(
        f"timm:{name}: the weights are not in the local cache and could not be downloaded "
        f"({brief(error)}); with no network, name a file of them by zoo import --weights"
    )


def _check_hub(name: str) -> None:
    """Raise `UserError` where the hub does not answer: its client would retry for over a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:
        raise _not_downloaded(name, error) from None


def _published(name: str) -> Any:
    import timm

    return None if name.startswith(FOLDER) else timm.get_pretrained_cfg(name)


def blank_timm(name: str, **kwargs: Any) -> nn.Module:
    """Build a timm network to look at its form: on the meta device, where it can be built there.

    Raises:
        UserError: no such model, or arguments that it does not take.
    """
    import timm

    _check_timm_name(name, published=False)
    try:
        with torch.device("meta"):
            return timm.create_model(name, **kwargs)
    except Exception:
        # Some read values while they are made, which the meta device has not.
        with network_errors(f"cannot build timm:{name}"):
            return timm.create_model(name, **kwargs)


def _check_timm_name(name: str, *, published: bool) -> None:
    """Raise `UserError` unless timm has the model, or the folder is one of timm's."""
    import timm

    if not name.startswith(FOLDER):
        known = timm.list_models(pretrained=published or "." in name)
        if "." not in name:
            known = list(dict.fromkeys(full.split(".")[0] for full in known))
        if name not in known:
            raise unknown_of_many("timm model", name, known)
    elif (config := Path(name.removeprefix(FOLDER), "config.json")).is_file():
        content = read_json(config)
        if not isinstance(content, dict) or "architecture" not in content:
            raise UserError(
                f"{name}: expected a folder that timm saved, but its config.json names no "
                "`architecture`; name the network, and the folder's file by --weights"
            )


def _in_cache(name: str) -> str | None:
    """Find published weights in the hub's cache: its client would first try the network, long."""
    from huggingface_hub import try_to_load_from_cache

    config = _published(name)
    if config is None or not config.hf_hub_id or config.hf_hub_filename:
        return None
    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(found, str):
            return found
    return None


def timm_spec(name: str, module: nn.Module, **known: Any) -> ModelSpec:
    """Describe a timm model by its pretrained configuration.

    Args:
        name: how to call it.
        module: what timm made.
        known: fields of `ModelSpec` that are laid over.
    """
    import timm

    described: Any = module
    config = timm.data.resolve_data_config({}, model=module)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise UserError(f"timm:{name}: expected square colour images, got {config['input_size']}")
    interpolation = config["interpolation"]
    defaults: dict[str, Any] = {
        "arch": f"timm:{described.pretrained_cfg['architecture']}",
        "image_size": height,
        "class_names": timm_class_names(module),
        "mean": list(config["mean"]),
        "std": list(config["std"]),
        "interpolation": interpolation if interpolation in INTERPOLATIONS else "bicubic",
        "crop_fraction": min(1.0, config["crop_pct"]),
        "parameters": count_parameters(module),
    }
    return ModelSpec(name=name, **(defaults | known))


def timm_data(module: nn.Module) -> dict[str, Any]:
    """Return the `source` and the `subset_count` of a model's published weights, where known.

    Of weights that were trained on one set of images and then on another (`augreg_in21k_ft_in1k`),
    the first counts.
    """
    described: Any = module
    parts = str(described.pretrained_cfg.get("tag") or "").split("_")
    source = next((part for part in parts if part in TRAINED_ON), "")
    return {"source": source, "subset_count": TRAINED_ON[source]} if source else {}


def timm_class_names(module: nn.Module) -> list[str]:
    """Return the names that the weights' configuration or ImageNet's lists give the outputs."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    described: Any = module
    config, count = described.pretrained_cfg, described.num_classes
    names: list[str] = list(config.get("label_names") or [])
    if descriptions := config.get("label_descriptions"):
        names = [descriptions.get(name, name) for name in names]
    elif not names and (subset := infer_imagenet_subset(module)):
        names = list(ImageNetInfo(subset).label_descriptions())
    return names if len(names) == count else numbered(count)


def timm_origin(module: nn.Module) -> dict[str, str]:
    """Return the `url` and the `licence` that timm names for a model's weights."""
    described: Any = module
    config = described.pretrained_cfg
    hub = config.get("hf_hub_id")
    known = {"url": f"{HUB}{hub}" if hub else config.get("url"), "licence": config.get("license")}
    return {key: str(value) for key, value in known.items() if value}


def timm_identity(name: str) -> str:
    """Return what stands for the digest of a timm model: its name and timm's version."""
    import importlib.metadata

    return f"timm-{importlib.metadata.version('timm')}:{name}"


def torchvision_weights(name: str, tag: str) -> Any:
    """Return the entry of published weights of a torchvision classifier; its best for no tag.

    Raises:
        UserError: torchvision has no such model or no such weights.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown_of_many("torchvision model", name, known)
    published = models.get_model_weights(name)
    if tag and tag not in published.__members__:
        raise unknown(f"weights of torchvision:{name}", tag, published.__members__)
    return published[tag or "DEFAULT"]


def create_torchvision(name: str, published: Any, **kwargs: Any) -> nn.Module:
    """Build a torchvision classifier with published weights, in eval mode.

    Raises:
        UserError: they are neither in torch's cache nor can they be downloaded.
    """
    from torchvision import models

    try:
        with only_tensors():
            return models.get_model(name, weights=published, progress=False, **kwargs).eval()
    except Exception as error:
        # urllib's errors, a digest that differs, a damaged file.
        raise UserError(
            f"torchvision:{name}: {published.url} is not in torch's cache and could not be "
            f"downloaded ({brief(error)}); with no network, name a file of the weights by zoo "
            "import --weights"
        ) from None


@contextmanager
def only_tensors() -> Iterator[None]:
    """Let torch read only tensors from files, whatever the calling library asks for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def numbered(count: int) -> list[str]:
    """Return names for classes of which only the number is known."""
    return [f"class {i}" for i in range(count)]


def check_names(names: Sequence[str], count: int, what: str) -> None:
    """Raise `UserError` unless there is a name for each output; no names mean no classifier."""
    if names and len(names) != count:
        outputs = counted(count, "output")
        raise UserError(f"{what}: expected class names for {outputs}, got {len(names)}")
