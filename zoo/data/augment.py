"""Random changes of a batch of training images, a different one for every image.

Crops and flips are one gather of the whole batch. Policies of operations and erasing are timm's,
MixUp and CutMix torchvision's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from zoo.config import TrainConfig
from zoo.errors import UserError

Policy = Callable[[Image.Image], Image.Image]


def random_crop_flip(images: torch.Tensor, *, padding: int, flip: bool) -> torch.Tensor:
    """Shift every image by up to `padding` pixels (black enters) and mirror half of them.

    Args:
        images: (n, height, width, 3) uint8.
        padding: pixels added on every side before the crop back to the original size.
        flip: whether to mirror images left to right, each with probability 1/2.

    Returns:
        Images of the same shape and type; draws from torch's global generator.
    """
    count, height, width, _ = images.shape
    if not padding and not flip:
        return images
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    top, left = torch.randint(2 * padding + 1, (2, count, 1))
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]]


class Augmentation:
    """What a recipe does to a batch beyond crops and flips; nothing where it asks for nothing."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        classes: int,
        mean: Sequence[float],
        image_size: int,
        seed: int,
    ) -> None:
        """Set up the transforms.

        Args:
            config: `augment`, `random_erasing`, `mixup` and `cutmix` are read.
            classes: how many there are; mixed labels are a distribution over them.
            mean: of every channel, 0 to 1; what is moved in from outside has this colour.
            image_size: pixels a side; images move by up to 0.45 of it.
            seed: with the number of a step, it decides a policy's draws.

        Raises:
            UserError: timm has no such policy.
        """
        from timm.data.random_erasing import RandomErasing
        from torchvision.transforms import v2

        self.seed = seed
        self.policy = _policy(config.augment, mean, image_size) if config.augment else None
        erase = config.random_erasing
        self.erasing = RandomErasing(erase, mode="pixel", device="cpu") if erase else None
        kinds = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        mixes = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]
        self.mixing = v2.RandomChoice(mixes) if mixes else None

    def change_pixels(self, images: torch.Tensor, step: int) -> torch.Tensor:
        """Apply the policy to (n, height, width, 3) uint8 images; the draws follow from `step`."""
        if self.policy is None:
            return images
        with _seeded(self.seed, step):
            changed = [np.asarray(self.policy(Image.fromarray(i))) for i in images.numpy()]
        return torch.from_numpy(np.stack(changed))

    def change_input(
        self, x: torch.Tensor, labels: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Erase parts of normalised images (n, 3, height, width), and mix them with others.

        Returns:
            The images, and labels (n,), or (n, classes) where images were mixed.
        """
        if self.erasing is not None:
            self.erasing.device = x.device
            with _seeded(self.seed, step, "erasing"):
                x = self.erasing(x)
        if self.mixing is not None:
            # An image is mixed with the one before it; a batch lies in the subset's order.
            order = torch.randperm(len(x)).to(x.device)
            x, labels = self.mixing(x[order], labels[order])
        return x, labels


def _policy(name: str, mean: Sequence[float], image_size: int) -> Policy:
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform

    make = rand_augment_transform if name.startswith("rand") else auto_augment_transform
    options = {
        "translate_const": int(0.45 * image_size),
        "img_mean": tuple(round(255 * channel) for channel in mean),
        # At 10, and in the policies refused here, timm keeps 0 bits of a channel; Pillow raises.
        "magnitude_max": 9.99,
    }
    try:
        if name == "v0" or (make is rand_augment_transform and "-inc1" not in name):
            raise ValueError("v0r and rand-...-inc1 are the ones to use")
        return make(name, options)
    except (AssertionError, KeyError, ValueError) as error:
        raise UserError(
            "train.augment: expected a policy of timm, such as rand-m9-mstd0.5-inc1 "
            f"(RandAugment) or original (AutoAugment), got {name!r} ({error})"
        ) from None


@contextmanager
def _seeded(*key: int | str) -> Iterator[None]:
    """Seed Python's and NumPy's generators, which timm draws from, and restore them afterwards."""
    before = random.getstate(), np.random.get_state()
    random.seed(repr(key))
    np.random.seed(random.getrandbits(32))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
