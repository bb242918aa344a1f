"""Networks as they were before training: what a number would be if nothing had been learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from zoo.errors import UserError
from zoo.models.build import ARCHITECTURES, build_spec
from zoo.models.factories import is_factory
from zoo.models.files import LoadedModel
from zoo.models.spec import ModelSpec, plain_arch


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

    It is known where it was given, and of a network that can be built again from its spec: one that
    this project trained or imported, one of timm's by name, one of its own architectures. It is not
    known of another wrapped network, and not where building gives the trained weights (a loader of
    one's own).
    """
    spec = model.spec
    if model.untrained is not None:
        return LoadedModel(f"{model.name} untrained", model.untrained, spec)
    own = bool(spec.class_names) and plain_arch(spec.arch) in ARCHITECTURES
    if not (own or model.digest):  # a wrapped network's arch is any name
        return None
    try:
        untrained = untrained_network(spec, spec.seed)
    except UserError:
        return None
    before, after = untrained.module.state_dict(), model.module.state_dict()
    if shapes(before) != shapes(after):
        return None  # a network of another kind under the name of one that can be built
    if is_factory(spec.arch) and all(torch.equal(before[name], after[name]) for name in before):
        return None  # a loader, which brings the trained weights
    return LoadedModel(f"{model.name} untrained", untrained.module, spec)


def shapes(state: Mapping[str, Any]) -> dict[str, torch.Size | None]:
    """Return the shape of each tensor of a network's state; quantised layers keep other things."""
    return {name: getattr(value, "shape", None) for name, value in state.items()}
