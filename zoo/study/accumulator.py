"""What an analysis does during the one pass of the networks over the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.progress import OnProgress, no_progress

if TYPE_CHECKING:  # the claims are listed without torch
    import torch

    from zoo.capture.hook_points import HookPoint
    from zoo.study.results import Result


class NotApplicable(Exception):  # noqa: N818 - it is no error
    """An analysis does not apply to these models; the message says why."""


@dataclass(frozen=True)
class Batch:
    """The images `start` to `stop` of a study, and each network's logits (n, classes)."""

    start: int
    stop: int
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    logits: tuple[torch.Tensor, ...]

    def rows_of(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places in the batch of those of some images of the study that are in it."""
        return images[(images >= self.start) & (images < self.stop)] - self.start


class Accumulator:
    """Sees what it asked for, batch by batch, and keeps only what its result needs.

    Its memory must not grow with the number of images, except for per-image scalars. One that takes
    long in `result` tells `on_progress`, which the engine sets.
    """

    on_progress: OnProgress = staticmethod(no_progress)

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        """Return what it wants to watch of a network, by its index in `Study.networks`."""
        return ()

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        """Take what it needs of a tensor now: later operations may overwrite it."""

    def end_batch(self, batch: Batch) -> None:
        """Use what was observed; all networks have now seen the batch."""

    def result(self) -> Result:
        """Return what was found; gradient analyses make their own passes here."""
        raise NotImplementedError
