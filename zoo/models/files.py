"""A model as a folder: `model.safetensors` and `spec.json`. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from zoo.errors import UserError
from zoo.files import write_bytes, write_json
from zoo.models.build import build_spec, count_parameters
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of, model_input
from zoo.models.spec import SPEC, WEIGHTS, ModelSpec, model_digest, read_spec
from zoo.models.wrapped import weights_digest

# What a stranger's spec may ask for; the largest of timm's own ask for less than half of it.
LARGEST_IMAGE = 4096  # pixels a side
LONGEST_NAME = 200  # characters
FIX = "fetch or train it again (dvc pull, dvc repro, zoo pull)"


@dataclass(frozen=True)
class LoadedModel:
    """A network with what is known of it; calling it on images gives logits (n, classes).

    `untrained` is the same network before training, where its owner gave it, and `seeds` are those
    trained from other seeds.
    """

    name: str
    module: nn.Module
    spec: ModelSpec
    digest: str = ""
    uri: str = ""
    untrained: nn.Module | None = None
    seeds: tuple[LoadedModel, ...] = ()

    def __call__(self, images: Any) -> torch.Tensor:
        """Return logits (n, classes) of uint8 images (n, height, width, 3), in eval mode.

        Raises:
            UserError: the network's output holds no tensor.
        """
        with torch.inference_mode(), eval_mode(self.module):
            return logits_of(self.module(model_input(images, self.spec, self.module)))


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
        UserError: a missing, damaged or foreign file, a spec that asks for too much, or weights
            that do not fit the spec.
    """
    digest = model_digest(folder)
    spec = read_spec(folder / SPEC)
    _check_modest(spec, folder)
    try:
        # Copied, since tensors inside the file are not aligned: kernels would round otherwise.
        weights = {name: t.clone() for name, t in load_file(folder / WEIGHTS).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS} is damaged: {error}; {FIX}") from None
    check_no_nan(weights, str(folder / WEIGHTS))
    module = _build_with(weights, spec, folder)
    module.eval()
    return LoadedModel(name or spec.name, module, spec, digest, uri or str(folder))


def check_no_nan(weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise `UserError` where weights hold NaN: every output would be NaN, and no number says so.

    Args:
        weights: by name.
        what: where they are from, for the message.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.float().isnan().any():
            raise UserError(
                f"{what}: {name!r} holds NaN, as after a training that diverged: expected numbers; "
                "take the weights of an earlier epoch, or train again"
            )


def describe_module(module: nn.Module, *, name: str, image_size: int, **known: Any) -> LoadedModel:
    """Wrap a network of the user's for a comparison.

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


def digest_in_memory(model: LoadedModel) -> str:
    """Return the sha256 over a network's spec and its weights, its identity in memory."""
    digest = hashlib.sha256(json.dumps(model.spec.as_dict(), sort_keys=True, default=str).encode())
    digest.update(weights_digest(model.module.state_dict()).encode())
    return digest.hexdigest()


def _build_with(weights: dict[str, torch.Tensor], spec: ModelSpec, folder: Path) -> nn.Module:
    # On the meta device no time goes into initial weights that are thrown away at once.
    with torch.device("meta"):
        module = build_spec(spec)
    _check_fit(module, weights, folder)
    module.load_state_dict(weights, strict=True, assign=True)
    left = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in left):
        # A buffer that is computed, not saved: the network has to be built for real.
        module = build_spec(spec)
        module.load_state_dict(weights, strict=True)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module


def _check_modest(spec: ModelSpec, folder: Path) -> None:
    """Refuse a spec that would take unbounded memory or time, before it takes any."""
    resized = spec.image_size / spec.crop_fraction
    if resized > LARGEST_IMAGE:
        raise _too_much(folder, f"images of {resized:.3g} px", f"{LARGEST_IMAGE} px")
    if len(spec.arch) > LONGEST_NAME:
        raise _too_much(folder, f"arch of {len(spec.arch)} characters", str(LONGEST_NAME))


def _too_much(folder: Path, asked: str, most: str) -> UserError:
    return UserError(f"{folder / SPEC} asks for {asked}; expected {most} at most: not built")


def _check_fit(module: nn.Module, weights: dict[str, torch.Tensor], folder: Path) -> None:
    expected = {name: _form(t) for name, t in module.state_dict().items()}
    got = {name: _form(t) for name, t in weights.items()}
    wrong = sorted(set(expected) ^ set(got)) or [n for n in expected if expected[n] != got[n]]
    if wrong:
        name, others = wrong[0], len(wrong)
        raise UserError(
            f"{folder / WEIGHTS} does not fit {SPEC}: {name!r}: expected "
            f"{expected.get(name, 'nothing')}, got {got.get(name, 'nothing')} ({others} differ); "
            f"take both files from one training, or {FIX}"
        )


def _form(tensor: torch.Tensor) -> str:
    """Describe a tensor's shape and type, as `3 x 16 float32`."""
    sides = " x ".join(map(str, tensor.shape)) or "one"
    return f"{sides} {str(tensor.dtype).removeprefix('torch.')}"
