"""Fine-tuning: a network that starts from another one's weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.errors import UserError, counted
from zoo.models.files import LoadedModel


def start_from(module: nn.Module, start: LoadedModel) -> None:
    """Copy a trained network's weights into one of the same architecture, but its classifier's.

    Where the two see images of other sizes, a ViT's position embeddings are resampled to the new
    grid, and with patches of another size so are the kernels that embed them (timm's way).

    Args:
        module: takes the weights; its classifier keeps its own.
        start: the trained network.

    Raises:
        UserError: timm does not know the network's classifier, or the weights do not fit it.
    """
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    weights = start.module.state_dict()
    if isinstance(module, VisionTransformer) and isinstance(start.module, VisionTransformer):
        weights = checkpoint_filter_fn(weights, module, antialias=True)
    heads = _classifier_names(module, start.name)
    given = {name: t for name, t in weights.items() if not name.startswith(heads)}
    wanted = {name: t for name, t in module.state_dict().items() if not name.startswith(heads)}
    unlike = [
        name
        for name in {**given, **wanted}
        if name not in given or name not in wanted or given[name].shape != wanted[name].shape
    ]
    if unlike:
        raise UserError(
            f"cannot start from {start.name}: {counted(len(unlike), 'tensor')} of {len(wanted)} "
            f"{'differs' if len(unlike) == 1 else 'differ'}, such as {unlike[0]}; give the model "
            f"that starts from it the same architecture and arguments ({start.spec.arch} with "
            f"{start.spec.kwargs})"
        )
    module.load_state_dict(given, strict=False)


def _classifier_names(module: Any, start: str) -> tuple[str, ...]:
    """Return the beginnings of the names of a network's classifiers' parameters."""
    if not hasattr(module, "get_classifier"):
        raise UserError(
            f"cannot start from {start}: expected a network of timm's or zoo's own, whose "
            f"classifier can be replaced, got {type(module).__name__}"
        )
    heads = module.get_classifier()
    known = heads if isinstance(heads, tuple) else (heads,)
    return tuple(
        f"{name}." for name, part in module.named_modules() if any(part is h for h in known)
    )
