"""A model as a folder: `model.safetensors` and `spec.json`. Nothing is ever unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from zoo.errors import UserError
from zoo.files import write_bytes, write_json
from zoo.models.build import build, count_parameters
from zoo.models.preprocess import preprocess
from zoo.models.spec import SPEC, WEIGHTS, ModelSpec, model_digest, read_spec


@dataclass(frozen=True)
class LoadedModel:
    """A network with what is known of it; calling it on images gives logits (n, classes)."""

    name: str
    module: nn.Module
    spec: ModelSpec
    digest: str = ""
    uri: str = ""

    def __call__(self, images: Any) -> torch.Tensor:
        """Return logits (n, classes) of uint8 images (n, height, width, 3), in eval mode."""
        device = next(self.module.parameters()).device
        training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                return self.module(preprocess(images, self.spec).to(device))
        finally:
            self.module.train(training)


def save_model(folder: Path, module: nn.Module, spec: ModelSpec) -> str:
    """Write weights and spec, each atomically; return the model's digest."""
    weights = {
        name: t.detach().cpu().contiguous().clone() for name, t in module.state_dict().items()
    }
    write_bytes(folder / WEIGHTS, save(weights))
    write_json(folder / SPEC, spec.as_dict())
    return model_digest(folder)


def load_model(folder: Path, *, name: str = "", uri: str = "") -> LoadedModel:
    """Build the network from its spec and load its weights strictly, in eval mode.

    Raises:
        UserError: a missing, damaged or foreign file, or weights that do not fit the spec.
    """
    digest = model_digest(folder)
    spec = read_spec(folder / SPEC)
    try:
        # Copied, since tensors inside the file are not aligned: kernels would round otherwise.
        weights = {name: t.clone() for name, t in load_file(folder / WEIGHTS).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS} is damaged: {error}") from None
    module = _build_with(weights, spec, folder)
    module.eval()
    return LoadedModel(name or spec.name, module, spec, digest, uri or str(folder))


def describe_module(module: nn.Module, *, name: str, image_size: int, **known: Any) -> LoadedModel:
    """Wrap a network of one's own for a comparison.

    Args:
        module: takes float images (n, 3, image_size, image_size).
        name: how reports call it.
        image_size: pixels a side of its input.
        known: other fields of `ModelSpec`; pixels are only scaled to 0..1 unless `mean` and
            `std` are given.
    """
    defaults: dict[str, Any] = {
        "arch": type(module).__name__,
        "class_names": [],
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "parameters": count_parameters(module),
    }
    spec = ModelSpec(name=name, image_size=image_size, **(defaults | known))
    return LoadedModel(name, module, spec)


def _build_with(weights: dict[str, torch.Tensor], spec: ModelSpec, folder: Path) -> nn.Module:
    def fresh() -> nn.Module:
        return build(
            spec.arch, classes=len(spec.class_names), image_size=spec.image_size, **spec.kwargs
        )

    # On the meta device no time goes into initial weights that are thrown away at once.
    with torch.device("meta"):
        module = fresh()
    _check_fit(module, weights, folder)
    module.load_state_dict(weights, strict=True, assign=True)
    left = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in left):
        # A buffer that is computed, not saved: the network has to be built for real.
        module = fresh()
        module.load_state_dict(weights, strict=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module


def _check_fit(module: nn.Module, weights: dict[str, torch.Tensor], folder: Path) -> None:
    expected = {name: (t.shape, t.dtype) for name, t in module.state_dict().items()}
    got = {name: (t.shape, t.dtype) for name, t in weights.items()}
    wrong = sorted(set(expected) ^ set(got)) or [n for n in expected if expected[n] != got[n]]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{folder / WEIGHTS} does not fit {SPEC}: {name!r}: expected "
            f"{expected.get(name, 'nothing')}, got {got.get(name, 'nothing')} ({len(wrong)} differ)"
        )
