"""Which of the images that a model is tested on it was trained on: those of the same pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.image_files import read_ahead, resize
from zoo.data.sources import Split
from zoo.data.subsets import DESCRIPTION, Subset, load_subset
from zoo.data.undecoded import ImageFiles
from zoo.errors import UserError, counted

SUBSETS = Path("data", "subsets")  # of a project


def pixel_digest(image: NDArray[np.uint8]) -> bytes:
    """Return a digest of an image's pixels and of its shape."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16)
    digest.update(repr(image.shape).encode())
    return digest.digest()


def find_subset(folder: Path, digest: str) -> Subset | None:
    """Return the subset of a digest among those in a folder; None where there is none."""
    for path in sorted(folder.glob(f"*/{DESCRIPTION}")) if digest else ():
        with suppress(UserError, OSError):  # it is damaged: it is not the one that was trained on
            subset = load_subset(path.parent)
            if subset.info.digest == digest:
                return subset
    return None


def count_trained_on(images: Split, subset: Subset | None) -> int:
    """Return how many images are among those of a subset; 0 where that cannot be known.

    Args:
        images: each as it was before it was resized or cropped.
        subset: what a model was trained on. Where its images stay in their files, the files are
            compared, since decoding all of them takes too long.
    """
    if subset is None:
        return 0
    if isinstance(subset.images, ImageFiles):
        known = {digest.tobytes() for digest in subset.images.digests}
        digest, count = partial(_file_digest, images), len(images.files)
    else:
        known = {pixel_digest(image) for image in subset.images}
        digest, count = partial(_digest_at, images, subset.info.image_size), len(images)
    return sum(of in known for of in read_ahead(digest, range(count)))


def shared_with_training(
    images: Split, subset_digests: Mapping[str, str], subsets: Path
) -> dict[str, int]:
    """Return how many of the images each model was trained on, of those that were on any.

    Args:
        images: as in `count_trained_on`.
        subset_digests: by the model's name, that of the subset that it was trained on.
        subsets: the folder of the project's subsets.
    """
    shared = {
        digest: count_trained_on(images, find_subset(subsets, digest))
        for digest in set(subset_digests.values())
    }
    return {name: shared[of] for name, of in subset_digests.items() if shared[of]}


def trained_on_note(name: str, shared: int, count: int) -> str:
    """Say how many of the images that a model is tested on it was trained on.

    >>> trained_on_note("vit", 3, 40)
    'vit was trained on 3 of these 40 images: on new ones it may do worse.'
    """
    return (
        f"{name} was trained on {shared:,} of these {counted(count, 'image')}: on new ones it may "
        "do worse."
    )


def _digest_at(images: Split, side: int, i: int) -> bytes:
    return pixel_digest(resize(images.read(i), side))


def _file_digest(images: Split, i: int) -> bytes:
    return hashlib.sha256(images.files[i].read_bytes()).digest()
