"""The one pass: each network runs once on each image; analyses watch."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.capture.hook_points import HookPoint, observe
from zoo.measures.sampling import even_batches
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of, model_input
from zoo.progress import OnProgress, no_progress
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.recorded import LOGITS

Wanted = dict[HookPoint, list[Accumulator]]
MUCH_MEMORY = 1 << 30  # bytes; a layer of ViT-S/16 at 224 px takes 0.1 GB in a batch of 128

logger = logging.getLogger(__name__)


def run_pass(
    study: Study,
    accumulators: Sequence[Accumulator],
    on_progress: OnProgress = no_progress,
    *,
    part: tuple[int, int] = (0, 1),
) -> None:
    """Show every accumulator what it asked for: each network runs once on each image.

    Where the study has a record of all that is asked for of a network, that is shown instead.

    Args:
        study: networks and images.
        accumulators: who is shown.
        on_progress: is called for every batch.
        part: which part of the batches, of how many; the others are skipped.
    """
    with ExitStack() as stack:
        # Not inference mode: its tensors do not count the operations that worked on them in place.
        stack.enter_context(torch.no_grad())
        for network in study.networks:
            stack.enter_context(eval_mode(network.model.module))
        wanted = [_wanted(accumulators, s) for s in range(len(study.networks))]
        batches = even_batches(len(study.images), study.settings.batch_size)
        if not part[0]:
            warn_of_memory(study.networks, wanted, batches[0][1])
        first, end = (len(batches) * (part[0] + i) // part[1] for i in (0, 1))
        for start, stop in batches[:first]:
            for accumulator in accumulators:
                accumulator.skip_batch(start, stop)
        # A batch of large networks takes minutes, in which the pass has begun.
        on_progress(batches[first - 1][1] if first else 0, len(study.images), "images")
        for start, stop in batches[first:end]:
            for accumulator in accumulators:
                accumulator.start = start
            pixels = np.array(study.images[start:stop])  # a copy: torch needs it writable
            logits = tuple(_show(study, s, pixels, wanted[s]) for s in range(len(study.networks)))
            labels = None if study.labels is None else study.labels[start:stop]
            for accumulator in accumulators:
                accumulator.end_batch(Batch(start, stop, pixels, labels, logits))
            on_progress(stop, len(study.images), "images")


def warn_of_memory(
    networks: Sequence[ComparedNetwork], wanted: Sequence[Wanted], images: int
) -> None:
    """Warn where a batch of the attention weights that are watched takes much memory.

    It grows with the fourth power of an image's side. What else a pass needs comes on top.
    """
    each, name = 0, ""
    for network, hook_points in zip(networks, wanted, strict=True):
        watched = {point.layer for point in hook_points if point.kind == "attention"}
        for layer in network.trace:
            if layer.attention and layer.name in watched:
                each, name = max((each, name), (4 * math.prod(layer.attention), network.name))
    if images * each > MUCH_MEMORY:
        logger.warning(
            "%s: the attention weights of one layer take %.1f GB for %d images at once; "
            "--batch-size %d takes a fraction of it",
            name, images * each / 2**30, images, max(1, MUCH_MEMORY // 4 // each),
        )  # fmt: skip


def _wanted(accumulators: Sequence[Accumulator], s: int) -> Wanted:
    wanted: Wanted = {}
    for accumulator in accumulators:
        for hook_point in accumulator.hook_points(s):
            wanted.setdefault(hook_point, []).append(accumulator)
    return wanted


def _show(study: Study, s: int, pixels: NDArray[np.uint8], wanted: Wanted) -> torch.Tensor:
    """Show what is wanted of a network on a batch, and return its logits.

    It runs unless all of that is in its record.
    """
    record = study.record(study.networks[s], pixels)
    kept = {point: record.found[point.key] for point in wanted if point.key in record.found}
    missing = {point: who for point, who in wanted.items() if point not in kept}
    if missing or LOGITS not in record.found:
        record.keep(_forward(s, study.networks[s], pixels, missing))
    for point, value in kept.items():
        for accumulator in wanted[point]:
            accumulator.observe(s, point, value.to(study.device))
    return record.found[LOGITS].to(study.device)


def _forward(
    s: int, network: ComparedNetwork, pixels: NDArray[np.uint8], wanted: Wanted
) -> dict[str, torch.Tensor]:
    """Run a network on a batch, and pass what is seen in it to those who asked.

    Returns:
        Its logits, and what was taken at hook points, by key.
    """
    module = network.model.module
    taken: dict[str, torch.Tensor] = {}

    def on_value(hook_point: HookPoint, value: torch.Tensor) -> None:
        if hook_point.take:
            taken[hook_point.key] = value
        for accumulator in wanted[hook_point]:
            accumulator.observe(s, hook_point, value)

    # Watched for this network's run only: two networks may share modules, or be one network that
    # gets its images in two ways.
    with observe(module, wanted, on_value):
        logits = logits_of(module(model_input(pixels, network.model.spec, module)))
    return taken | {LOGITS: logits}
