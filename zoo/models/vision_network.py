"""Networks of Hugging Face's transformers, an optional package, built from their configuration.

Only classes of transformers' own are built; code that a repository brings is never run.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from zoo.errors import UserError, unknown


class VisionNetwork(nn.Module):
    """A network of transformers that gives logits, or pooled features without a classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (n, 3, size, size) to (n, classes) or (n, width)."""
        given = self.network(images)
        if "logits" in given:
            logits: torch.Tensor = given["logits"]
            return logits
        if (pooled := given.get("pooler_output")) is not None:
            return pooled.flatten(1)
        tokens: torch.Tensor = given["last_hidden_state"]
        return tokens.mean(dim=1) if tokens.ndim == 3 else tokens.flatten(2).mean(dim=2)


def build_hf(name: str, classes: int, kwargs: Mapping[str, Any]) -> VisionNetwork:
    """Build an untrained network of transformers.

    Args:
        name: one of transformers' own vision or image classification classes.
        classes: outputs of its classifier; 0 for a tower.
        kwargs: `config`, with its `model_type`, and the class's own arguments.

    Raises:
        UserError: another class, or no such configuration.
    """
    transformers = transformers_package()
    from transformers.models.auto import modeling_auto as auto

    tables = (
        auto.MODEL_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )
    made = [one for table in tables for one in table.values()]
    known = {n for one in made for n in ((one,) if isinstance(one, str) else one)}
    if name not in known:
        raise unknown(
            "model of transformers:",
            name,
            difflib.get_close_matches(name, known, n=5) or sorted(known)[:3],
        )
    own = dict(kwargs)
    described = own.pop("config", {})
    kind = described.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise UserError(f"hf:{name}: expected kwargs with config and its model_type, got {kind!r}")
    labels = {"num_labels": classes} if classes else {}
    config = transformers.CONFIG_MAPPING[kind].from_dict({**described, **labels})
    return VisionNetwork(getattr(transformers, name)(config, **own))


def transformers_package() -> Any:
    """Return the package; `UserError` where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise UserError(
            "hf: models need the package transformers, which is not installed: "
            "pip install 'vision-zoo[hf]'"
        )
    import transformers

    return transformers
