"""The last layer of a network: replaced for other classes, trained alone, looked into."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zoo.capture.hook_points import HookPoint, observe
from zoo.config import Settings
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.files import LoadedModel
from zoo.models.modes import eval_mode
from zoo.models.preprocess import model_input


def with_new_classifier(model: LoadedModel, classes: int, seed: int) -> tuple[nn.Module, str]:
    """Return a copy of a network with a new classifier of so many classes, and its path.

    The model stays as it is; `seed` is that of the classifier's initial weights.

    Raises:
        UserError: the model has no single classifier with weights, or is not zoo's to build.
    """
    path, spec = classifier_path(model), model.spec
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(spec.arch, classes=classes, image_size=spec.image_size, **spec.kwargs)
    weights = module.state_dict()
    for key, tensor in model.module.state_dict().items():
        if key.startswith(f"{path}."):
            continue
        if key not in weights or weights[key].shape != tensor.shape:
            raise UserError(f"{model.name}: {key} does not fit {spec.arch} as zoo builds it")
        weights[key] = tensor
    module.load_state_dict(weights)
    return module, path


def classifier_path(model: LoadedModel) -> str:
    """Return the path of a network's classifier; `UserError` where it has none, or several."""
    get = getattr(model.module, "get_classifier", None)
    found = get() if get else None
    paths = [path for path, part in model.module.named_modules() if path and part is found]
    if not paths or not isinstance(found, nn.Module) or not list(found.parameters()):
        raise UserError(
            f"{model.name}: expected a network with one classifier that can be replaced; "
            f"{model.spec.arch} has none that is known (a method get_classifier that returns it)"
        )
    return paths[0]


def classifier_inputs(
    model: LoadedModel, path: str, images: NDArray[np.uint8], device: str | torch.device
) -> NDArray[np.float32]:
    """Return what a network's classifier sees of images (n, height, width, 3): (n, features)."""
    module, seen = model.module.to(device), []

    def keep(hook_point: HookPoint, value: torch.Tensor) -> None:
        seen.append(value.float().flatten(1).cpu().numpy())

    step = Settings.batch_size
    with (
        torch.inference_mode(),
        eval_mode(module),
        observe(module, [HookPoint(path, "input")], keep),
    ):
        for start in range(0, len(images), step):
            pixels = np.array(images[start : start + step])
            module(model_input(pixels, model.spec, module))
    return np.concatenate(seen)


class ClassifierAlone(nn.Module):
    """A network of which only the classifier learns.

    Everything else has no gradients and stays in eval mode while training, so that neither its
    weights nor its batch statistics change and no dropout blurs what the classifier sees.
    """

    def __init__(self, network: nn.Module, classifier: str) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        network.get_submodule(classifier).requires_grad_(True)

    def train(self, mode: bool = True) -> ClassifierAlone:
        """Change the mode of the wrapper alone."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's logits (n, classes)."""
        return self.network(x)
