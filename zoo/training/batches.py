"""The images of a run's batches: out of arrays when a step asks, or made ahead of it.

Images that stay in their files are decoded and changed by torch's DataLoader, in processes of its
own; so are arrays where a GPU would wait for a policy such as RandAugment. What is drawn for such a
batch follows from the seed and the number of its step, so that neither the number of those
processes nor a run that was stopped changes it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from zoo.config import TrainConfig
from zoo.data.augment import Augmentation, random_crop_flip
from zoo.data.subsets import Subset
from zoo.errors import UserError
from zoo.processes import process_count

Key = TypeVar("Key")
Images = tuple[torch.Tensor, torch.Tensor]  # (n, height, width, 3) uint8, and labels (n,)


def take(subset: Subset, which: Any) -> Images:
    """Return copies of some of a subset's images and their labels."""
    return torch.from_numpy(np.array(subset.images[which])), torch.from_numpy(
        np.array(subset.labels[which])
    )


@dataclass(frozen=True)
class TrainingImages:
    """Called with the number of a step and indices, gives their images as that step sees them.

    Made `ahead`, they are made in a process whose generator nobody else draws from.
    """

    subset: Subset
    config: TrainConfig
    augmentation: Augmentation
    seed: int
    ahead: bool

    def __call__(self, asked: tuple[int, torch.Tensor]) -> Images:
        """Read the images and change them; crops are drawn from torch's global generator."""
        step, indices = asked
        images, labels = take(self.subset, indices.numpy())
        if self.ahead:
            torch.manual_seed(random.Random(f"{self.seed} {step}").getrandbits(63))
        config = self.config
        images = random_crop_flip(images, padding=config.crop_padding, flip=config.flip)
        return self.augmentation.change_pixels(images, step), labels


def reading_processes(subset: Subset, *, ahead: bool = False) -> int:
    """Return how many processes read a subset: a core each; 0 for an array not made `ahead`."""
    if not (subset.info.root or ahead):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    together = int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))
    return max(1, (cores or 1) // together)


def in_order(
    read: Callable[[Key], Images], keys: Iterable[Key], processes: int
) -> Generator[Images, None, None]:
    """Yield what `read` gives for each key.

    Args:
        read: is called when the next value is asked for, or ahead of that by several processes.
        keys: in this order, for any number of processes.
        processes: 0 for none but this one.

    Raises:
        UserError: an image cannot be read, or one of the processes ended.
    """
    if not processes:
        yield from map(read, keys)
        return
    loader: DataLoader[Any] = DataLoader(
        _Answers(read),  # type: ignore[arg-type]
        sampler=keys,
        batch_size=None,
        num_workers=processes,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the global one is left as it is
    )
    try:
        for found in loader:
            if isinstance(found, UserError):
                raise found
            yield found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that reads images was ended ({error}): run the same command again to "
            "continue, with more memory, shared memory (/dev/shm) or smaller batches"
        ) from None


@dataclass(frozen=True)
class _Answers(Generic[Key]):
    """A dataset by key. An error is an answer: the loader would add its process's traceback."""

    read: Callable[[Key], Images]

    def __getitem__(self, key: Key) -> Images | UserError:
        try:
            return self.read(key)
        except UserError as error:
            return error
