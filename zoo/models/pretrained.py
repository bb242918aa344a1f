"""Models with published weights, by their name in timm."""

from __future__ import annotations

from typing import Any

from zoo.errors import UserError, unknown
from zoo.models.build import count_parameters
from zoo.models.files import LoadedModel
from zoo.models.spec import INTERPOLATIONS, ModelSpec


def load_timm(name: str) -> LoadedModel:
    """Build a timm model with its published weights and its own preprocessing.

    Args:
        name: a timm name, with or without a tag: `vit_small_patch16_224.augreg_in21k`.

    Raises:
        UserError: timm has no such model or weights, or they can neither be found in the local
            cache nor downloaded.
    """
    import timm

    known = timm.list_models(pretrained=True)
    if name not in known and not any(full.split(".")[0] == name for full in known):
        raise unknown("timm model", name, _nearest(name, known))
    try:
        module = timm.create_model(name, pretrained=True).eval()
    except Exception as error:
        # Hub clients raise many kinds of errors, of their own and of the network.
        raise UserError(
            f"timm:{name}: the weights are not in the local cache and could not be downloaded "
            f"({type(error).__name__}: {error})"
        ) from None
    spec = timm_spec(name, module)
    return LoadedModel(name, module, spec, digest=timm_identity(name), uri=f"timm:{name}")


def timm_spec(name: str, module: Any) -> ModelSpec:
    """Describe a timm model by its pretrained configuration."""
    import timm

    config = timm.data.resolve_data_config({}, model=module)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise UserError(f"timm:{name}: expected square colour images, got {config['input_size']}")
    interpolation = config["interpolation"]
    return ModelSpec(
        name=name,
        arch=name,
        image_size=height,
        class_names=[f"class {i}" for i in range(module.num_classes)],
        mean=list(config["mean"]),
        std=list(config["std"]),
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bicubic",
        crop_fraction=config["crop_pct"],
        parameters=count_parameters(module),
    )


def timm_identity(name: str) -> str:
    """Return what stands for the digest of a timm model: its name and timm's version."""
    import importlib.metadata

    return f"timm-{importlib.metadata.version('timm')}:{name}"


def _nearest(name: str, known: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, known, n=5) or known[:3]
