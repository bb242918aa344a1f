"""What decides a comparison: the identity of its numbers, that of their looks, and its provenance.

Two comparisons with the same digest have the same numbers, so the second one is not computed. How
the numbers are presented has an identity of its own, `looks`: where only that changes, the saved
results are drawn again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from zoo.config import Settings
from zoo.device import describe_device
from zoo.files import code_digest, json_digest
from zoo.models.spec import describe_training, training_steps

if TYPE_CHECKING:
    from zoo.models.files import LoadedModel
    from zoo.study.networks import ComparedNetwork, Study

# Zoo's code that decides the numbers, and zoo's code that decides how they are presented.
NUMBERS = (
    "analyses",
    "capture",
    "config",
    "measures",
    "models",
    "processes.py",
    "study",
)
LOOKS = ("analyses", "claims", "comparison.py", "figures", "report")
LIBRARIES = ("numpy", "pillow", "scikit-learn", "scipy", "timm", "torch", "torchvision")


def comparison_digest(
    models: Sequence[tuple[str, str]],
    images: str,
    analyses: Sequence[str],
    settings: Settings,
    siblings: Sequence[str] = (),
    *,
    device: str,
) -> str:
    """Return the identity of a comparison's numbers; no model is loaded for it.

    Args:
        models: (name, digest) of each, in order.
        images: digest of the images that the networks see.
        analyses: names of the analyses.
        settings: everything else that decides the numbers.
        siblings: digests of other seeds that serve as references.
        device: where the networks run, as `parse_device` returned it.
    """
    identity = {
        "models": [list(model) for model in models],
        "images": images,
        "analyses": list(analyses),
        "settings": dataclasses.asdict(settings),
        "siblings": list(siblings),
    }
    return json_digest(identity | conditions(device))


def conditions(device: str) -> dict[str, Any]:
    """Return what decides numbers beside models, images and settings, as JSON values.

    Args:
        device: as `parse_device` returned it.
    """
    return {
        "hardware": describe_device(device),
        "code": numbers_code(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


@cache
def numbers_code() -> str:
    """Return the digest of zoo's code that decides the numbers."""
    return code_digest(NUMBERS)


@cache
def looks() -> str:
    """Return the identity of how results are presented: claims, figures, texts and the page."""
    return code_digest(LOOKS)


def provenance(
    models: Sequence[LoadedModel],
    study: Study,
    *,
    digest: str,
    images_digest: str,
    source: str = "",
    split: str = "",
    command: str = "",
) -> dict[str, Any]:
    """Return what a comparison's numbers come from, as JSON values."""
    from zoo import __version__

    return {
        "zoo_version": __version__,
        "code": numbers_code(),
        "digest": digest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "models": [
            _model(model, network) for model, network in zip(models, study.compared, strict=True)
        ],
        "images": {
            "count": len(study.images),
            "digest": images_digest,
            "source": source,
            "split": split,
            "class_names": list(study.class_names),
            "shown": list(study.shown),
        },
        "settings": dataclasses.asdict(study.settings),
        "environment": _environment(str(study.device)),
    }


def _model(model: LoadedModel, network: ComparedNetwork) -> dict[str, Any]:
    spec = model.spec
    return {
        "name": network.name,
        "uri": model.uri,
        "digest": model.digest,
        "arch": spec.arch,
        "family": network.family,
        "parameters": spec.parameters,
        "image_size": spec.image_size,
        "crop_fraction": spec.crop_fraction,
        "interpolation": spec.interpolation,
        "mean": spec.mean,
        "std": spec.std,
        "source": spec.source,
        "subset": spec.subset,
        "subset_count": spec.subset_count,
        "seed": spec.known_seed,
        "training": describe_training(spec),
        "steps": training_steps(spec),
        "metrics": spec.metrics,
        "layers": list(network.layers),
    }


def _environment(device: str) -> dict[str, str]:
    import platform

    return describe_device(device) | {
        "torch": version("torch"),
        "timm": version("timm"),
        "python": platform.python_version(),
    }
