"""Maps of what in an image speaks for a class: Grad-CAM, and attention rollout beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.analyses.rollout import rollout_step, token_maps
from zoo.capture.hook_points import HookPoint, observe
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of
from zoo.study.answers import logits_on
from zoo.study.attention_layers import Attending
from zoo.study.networks import ComparedNetwork
from zoo.study.spatial_layout import Layout, last_mapped_block, places_of

GRADIENT_BATCH = 8  # images whose whole graph, or attention, is held at once


def grad_cam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the Grad-CAM map of a layer.

    Args:
        activation: (n, places, channels).
        gradient: of a class's logit, with respect to the activation; the same shape.

    Returns:
        (n, places): max(0, Σ_c α_c A_c), where α_c is channel c's gradient averaged over places.

    Source: Selvaraju et al. 2017, Eqs 1–2.
    """
    return (activation * gradient.mean(dim=1, keepdim=True)).sum(dim=2).clamp(min=0)


def class_maps(
    network: ComparedNetwork, pixels: torch.Tensor, classes: torch.Tensor
) -> tuple[torch.Tensor, str]:
    """Return Grad-CAM maps of one class an image at a model's last block of 4 × 4 places or more.

    Args:
        network: the model; its last block is the last one whose output lies over the image, in
            at least 4 × 4 places if any does.
        pixels: (n, 3, size, size), its input.
        classes: (n,) the class to explain.

    Returns:
        Maps (n, height, width) on the block's grid, and where they were taken: `output` of the
        block, or `input` where the classifier reads no place of the output (a class token's
        model: the last block's attention is what carries the patches to it).

    Raises:
        ValueError: the model has no such block, or its logits do not depend on it.
    """
    block = last_mapped_block(network)
    if block is None:
        raise ValueError("no block's output lies over the image")
    parts = zip(pixels.split(GRADIENT_BATCH), classes.split(GRADIENT_BATCH), strict=True)
    found = [_at_block(network, *block, x, c) for x, c in parts]
    for kind in ("output", "input"):
        if all(kind in maps for maps in found):
            return torch.cat([maps[kind] for maps in found]), kind
    raise ValueError(f"its logits do not depend on any place of {block[0]}")


def _at_block(
    network: ComparedNetwork,
    layer: str,
    layout: Layout,
    pixels: torch.Tensor,
    classes: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Return Grad-CAM at a block's output and input, where the logits depend on its places."""
    captured: dict[str, torch.Tensor] = {}
    hook_points = [HookPoint(layer, "output"), HookPoint(layer, "input")]
    module = network.model.module
    found = {}
    with (
        eval_mode(module),
        torch.enable_grad(),
        observe(module, hook_points, lambda at, value: captured.update({at.kind: value})),
    ):
        score = logits_of(module(pixels.detach().requires_grad_().clone()))
        score = score.gather(1, classes[:, None]).sum()
        # A block's input has the layout of its output for certain only where both are tokens.
        for kind in ("output", "input") if layout.kind == "tokens" else ("output",):
            if not (score.requires_grad and captured[kind].requires_grad):
                continue
            (gradient,) = torch.autograd.grad(
                score, captured[kind], retain_graph=True, allow_unused=True
            )
            if gradient is None or not bool(places_of(gradient, layout).any()):
                continue
            sides = (places_of(v.detach().float(), layout) for v in (captured[kind], gradient))
            found[kind] = grad_cam(*sides).unflatten(1, (layout.height, layout.width))
    return found


def rollout_maps(
    network: ComparedNetwork,
    attending: Attending,
    pixels: torch.Tensor,
    layers: Sequence[str] = (),
) -> torch.Tensor:
    """Return a ViT's attention rollout over its grid, (n, layers, height, width).

    Args:
        network: the model.
        attending: its attention.
        pixels: (n, 3, size, size), its input.
        layers: up to which layers attention is followed; up to the last by default.
    """
    layers = layers or attending.layers[-1:]
    if len(pixels) > GRADIENT_BATCH:
        parts = pixels.split(GRADIENT_BATCH)
        return torch.cat([rollout_maps(network, attending, part, layers) for part in parts])
    below: list[torch.Tensor] = []
    found: dict[str, torch.Tensor] = {}

    def step(hook_point: HookPoint, weights: torch.Tensor) -> None:
        below[:] = [rollout_step(weights, below[0] if below else None)]
        if hook_point.layer in layers:
            found[hook_point.layer] = token_maps(
                below[0], attending.grid, class_token=attending.class_token
            )

    hook_points = [HookPoint(name, "attention") for name in attending.layers]
    module = network.model.module
    with eval_mode(module), torch.inference_mode(), observe(module, hook_points, step):
        module(pixels.clone())  # a network may work in place on its input
    return torch.stack([found[name] for name in layers], dim=1)


def probabilities_of(network: ComparedNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """Return a model's class probabilities (n, classes) for its input (n, 3, size, size)."""
    return logits_on(network, pixels, len(pixels)).float().softmax(dim=1)
