"""Networks as they were before training: what a number would be if nothing had been learnt."""

from __future__ import annotations

import torch

from zoo.errors import UserError
from zoo.models.build import ARCHITECTURES, build_spec
from zoo.models.files import LoadedModel
from zoo.models.spec import NO_SKIP, ModelSpec


def untrained_network(spec: ModelSpec, seed: int) -> LoadedModel:
    """Build a network with the weights from which the training of this seed starts.

    Raises:
        UserError: it cannot be built here.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build_spec(spec)
    return LoadedModel(f"{spec.name} untrained", module.eval(), spec)


def before_training(model: LoadedModel) -> LoadedModel | None:
    """Return a model as it was before training; None where that is not known.

    It is known of what this project trained and of its own architectures, not of published
    weights and of wrapped networks.
    """
    spec = model.spec
    match = NO_SKIP.match(spec.arch)
    own = (match["arch"] if match else spec.arch) in ARCHITECTURES
    kept = bool(spec.subset_digest and model.digest)  # a wrapped network's arch is any name
    if not spec.class_names or not (own or kept):
        return None
    try:
        untrained = untrained_network(spec, spec.seed)
    except UserError:
        return None
    if _shapes(untrained) != _shapes(model):
        return None  # a network of another kind under the name of one that can be built
    return LoadedModel(f"{model.name} untrained", untrained.module, spec)


def _shapes(model: LoadedModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.module.state_dict().items()}
