"""What an analysis does during the one pass of the networks over the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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


class Accumulator:
    """Observes what it asked for, batch by batch, and keeps only what its result needs.

    Its memory must not grow with the number of images, except for per-image scalars. If
    `result` takes long, it calls `on_progress`, which the engine sets.

    If several processes each see some of the batches, the attributes in `gathers` are merged:
    lists in the order of the images, sums added.
    """

    gathers: ClassVar[tuple[str, ...]] = ()  # the attributes that grow with the images
    start = 0  # the first image of the batch, which the pass sets
    on_progress: OnProgress = staticmethod(no_progress)

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        """Return what it wants to watch of a network, by its index in `Study.networks`.

        What a hook point takes may be shown from an earlier pass of the network.
        """
        return ()

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        """Take what it needs of a tensor now: later operations may overwrite it."""

    def rows_of(self, images: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the places in a batch of `count` images of those images of the study in it."""
        return images[(images >= self.start) & (images < self.start + count)] - self.start

    def skip_batch(self, start: int, stop: int) -> None:
        """Draw what it would draw at random for a batch that another process sees."""

    def end_batch(self, batch: Batch) -> None:
        """Use what was observed; all networks have now seen the batch."""

    def result(self) -> Result:
        """Return what was found; gradient analyses make their own passes here."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return what it has gathered so far, by attribute."""
        return {name: getattr(self, name) for name in self.gathers}

    def take(self, states: Sequence[dict[str, Any]]) -> None:
        """Replace what it has gathered by what several have, in the order of their images."""
        for name in self.gathers:
            value = states[0][name]
            for state in states[1:]:
                value = merged(value, state[name])
            setattr(self, name, value)


def merged(ours: Any, theirs: Any) -> Any:
    """Return what two have gathered from some images and from those after them.

    >>> merged({"a": [1], "b": 2.0}, {"a": [3], "b": 0.5, "c": {4}})
    {'a': [1, 3], 'b': 2.5, 'c': {4}}
    """
    if isinstance(ours, dict):
        both = {key: merged(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()}
        return ours | theirs | both
    if isinstance(ours, set):
        return ours | theirs
    if isinstance(ours, str):  # what was wrong first
        return ours
    if hasattr(ours, "merge"):
        ours.merge(theirs)
        return ours
    return ours + theirs
