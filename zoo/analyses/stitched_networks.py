"""Networks that go on from features predicted from another network's: what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.capture.hook_points import HookPoint, observe
from zoo.capture.resume import passes, record_blocks, resumable_blocks, resumed, with_tensor
from zoo.measures.stitching import Stitch, resampling
from zoo.models.modes import eval_mode
from zoo.models.preprocess import model_input
from zoo.study.answers import logits_on, predictions
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.spatial_layout import Layout, places_of

TOLERANCE = 1e-2  # of a norm: half precision rounds differently from batch to batch
Point = tuple[int, str]  # a network by its index among the study's, and a block of it
Cell = tuple[Point, Point]
Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Maps:
    """A stitch of the places, and one of the tokens before them where there are such tokens."""

    places: Stitch
    prefix: Stitch | None


def is_all_that_is_read(network: ComparedNetwork, block: str) -> bool:
    """Say whether a network's answer follows from a block's output, whatever came before it.

    Two noise images swap their outputs at the block: their answers must then swap too.
    """
    module, size = network.model.module, network.model.spec.image_size
    noise = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    pixels = model_input(noise, network.model.spec, module)
    outputs, logits = record_blocks(module, [block], pixels)
    if block not in outputs:
        return False
    first = outputs[block] if isinstance(outputs[block], torch.Tensor) else outputs[block][0]
    with resumed(module, {block: with_tensor(outputs[block], first.flip(0))}):
        turned = logits_on(network, pixels, len(pixels)).flip(0)
    # What is no number before and after is the same; features that are not finite are told later.
    turned, logits = torch.nan_to_num(turned), torch.nan_to_num(logits)
    return bool(torch.linalg.norm(turned - logits) <= TOLERANCE * torch.linalg.norm(logits))


def stitched_answers(
    study: Study,
    rows: NDArray[np.int64],
    sources: Mapping[Point, Layout],
    targets: Mapping[Point, Layout],
    maps: Mapping[Cell, Maps],
) -> tuple[dict[Cell, Right], dict[int, Right]]:
    """Return on which images each stitched network is right, and each whole one.

    Args:
        study: its networks, images and labels.
        rows: the indices of the images.
        sources: how the output of each block that is mapped lies over the image.
        targets: the same of the blocks that are mapped onto.
        maps: from which onto which, and how.
    """
    labels = np.asarray(study.labels)[rows]
    found: dict[Cell, list[NDArray[np.int64]]] = {cell: [] for cell in maps}
    whole: dict[int, list[NDArray[np.int64]]] = {s: [] for s, _ in targets}
    step = min(len(passes(_pixels(study, s, rows))[0]) for s in whole)
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        seen = _features(study, part, {source for source, _ in maps})
        for s, answers in whole.items():
            network, pixels = study.networks[s], _pixels(study, s, part)
            once = resumable_blocks(network.trace)
            outputs, logits = record_blocks(network.model.module, once, pixels)
            answers.append(predictions(logits))
            for source, target in (cell for cell in maps if cell[1][0] == s):
                block, layouts = target[1], (sources[source], targets[target])
                features = _predicted(seen[source], *layouts, maps[source, target])
                given = {b: outputs[b] for b in once[: once.index(block)] if b in outputs}
                given[block] = with_tensor(outputs[block], features)
                with resumed(network.model.module, given):
                    logits = logits_on(network, pixels, len(pixels))
                found[source, target].append(predictions(logits))
    right = {cell: np.concatenate(of) == labels for cell, of in found.items()}
    return right, {s: np.concatenate(of) == labels for s, of in whole.items()}


def pooled(value: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return what tokens before the places are predicted from: such tokens, and the mean place."""
    mean = places_of(value, layout).mean(dim=1)
    if not layout.num_prefix_tokens:
        return mean
    return torch.cat([value[:, : layout.num_prefix_tokens].flatten(1), mean], dim=1)


def _pixels(study: Study, s: int, rows: NDArray[np.int64]) -> torch.Tensor:
    model = study.networks[s].model
    return model_input(study.images[rows], model.spec, model.module)


def _features(
    study: Study, rows: NDArray[np.int64], points: Iterable[Point]
) -> dict[Point, torch.Tensor]:
    """Return the outputs of blocks on some images."""
    seen: dict[Point, torch.Tensor] = {}
    for s in dict.fromkeys(s for s, _ in points):
        module = study.networks[s].model.module

        def keep(hook_point: HookPoint, value: torch.Tensor, s: int = s) -> None:
            seen[s, hook_point.layer] = value.clone()  # a later block may work in place on it

        hook_points = [HookPoint(block) for of, block in points if of == s]
        with torch.inference_mode(), eval_mode(module), observe(module, hook_points, keep):
            module(_pixels(study, s, rows))
    return seen


def _predicted(value: torch.Tensor, at: Layout, onto: Layout, maps: Maps) -> torch.Tensor:
    """Return the output of B's block that is predicted from the output of A's."""
    value = value.float()
    matrix = resampling((at.height, at.width), (onto.height, onto.width))
    places = _apply(maps.places, matrix.to(value) @ places_of(value, at))
    if onto.kind == "channels_first":
        return places.transpose(1, 2).contiguous()
    if maps.prefix is None:
        return places
    prefix = _apply(maps.prefix, pooled(value, at))
    return torch.cat([prefix.unflatten(1, (onto.num_prefix_tokens, -1)), places], dim=1)


def _apply(stitch: Stitch, value: torch.Tensor) -> torch.Tensor:
    weights, offset = (torch.from_numpy(v).to(value) for v in (stitch.weights, stitch.offset))
    return value @ weights + offset
