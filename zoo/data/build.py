"""Build nested, class-balanced, seeded subsets of a source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.image_files import Readable, read_ahead, resize
from zoo.data.shards import Member
from zoo.data.sources import Source, Split
from zoo.data.subsets import (
    DESCRIPTION,
    DIGESTS,
    IMAGES,
    LABELS,
    PATHS,
    PLACES,
    SUBSET,
    SubsetInfo,
    content_digest,
    described,
)
from zoo.data.undecoded import ImageFiles
from zoo.errors import UserError, counted
from zoo.files import find_root, user_path, write_json
from zoo.files.folders import replacing_folder
from zoo.measures.sampling import balanced_order, stratified_split

HELD_OUT = ("validation", "test")
SHOWN = 20  # damaged images that are named


def build_subsets(
    source: Source,
    sizes: Mapping[str, int | str],
    folder: Path,
    *,
    image_size: int,
    validation: float,
    seed: int,
    root: str = "",
    max_array_gb: float = float("inf"),
) -> dict[str, SubsetInfo]:
    """Write every subset, and the `validation` and `test` splits that all of them share.

    Args:
        sizes: subset name -> number of images, or `all`.
        folder: each subset becomes a folder in it.
        image_size: pixels a side; images are resized and centre-cropped to it.
        validation: share of every class of the train split that is held out.
        seed: decides the order; the same seed gives the same subsets on every machine.
        root: the source's folder as params.yaml names it.
        max_array_gb: of a source of image files, subsets that would be larger than this, all
            together, hold the files' names and digests instead of pixels.

    Raises:
        UserError: a size that the data cannot give, a reserved name, a class with too few images.
    """
    for name in sizes:
        if name in HELD_OUT:
            raise UserError(f"subsets: {name!r} is the name of a held-out split; choose another")
    pool, held_out = stratified_split(source.train.labels, validation, seed, source.class_names)
    order = pool[balanced_order(source.train.labels[pool], seed)]
    counts = {name: subset_count(name, size, source, pool) for name, size in sizes.items()}
    # Sources may lie class by class; the held-out splits are read from their beginning.
    held_out = held_out[balanced_order(source.train.labels[held_out], seed)]
    chosen = {name: order[:count] for name, count in counts.items()} | {"validation": held_out}
    parts = {name: (source.train, indices) for name, indices in chosen.items()}
    parts["test"] = (source.test, balanced_order(source.test.labels, seed))
    array_bytes = sum(len(indices) for _, indices in parts.values()) * image_size**2 * 3
    if not (source.train.files and array_bytes > max_array_gb * 1e9):
        root = ""
    cut = _Cut(source, image_size, seed, root)
    with ExitStack() as stack:
        # All of them appear, or none: subsets of two sources would not fit together.
        folders = {n: stack.enter_context(replacing_folder(folder / n, SUBSET)) for n in parts}
        infos = {name: cut.write(name, *part, folders[name]) for name, part in parts.items()}
        if damaged := [*cut.damaged]:
            raise UserError(
                f"{counted(len(damaged), 'image')} cannot be used, and no subset is written: "
                f"{'; '.join(damaged[:SHOWN])}{'; …' if len(damaged) > SHOWN else ''}"
            )
    return infos


def subset_count(name: str, size: int | str, source: Source, pool: NDArray[np.int64]) -> int:
    """Return how many images a subset gets: `size` of them, or `all` of the pool.

    The pool are the indices of the training images that are not held out for validation.

    Raises:
        UserError: there are too few images, in all or of a class.
    """
    if size == "all":
        return len(pool)
    if not isinstance(size, int) or size < 1:
        raise UserError(f"subset {name}: expected a number of images or 'all', got {size!r}")
    if size > len(pool):
        raise UserError(
            f"subset {name}: {size} images asked for, {source.name} has {len(pool)} to train on"
        )
    classes = len(source.class_names)
    needed = -(-size // classes)
    present = np.bincount(source.train.labels[pool], minlength=classes)
    # Within one image a class: the first `size % classes` classes give one more.
    wanted = size // classes + (np.arange(classes) < size % classes)
    if (short := np.flatnonzero(present < wanted)).size:
        raise UserError(
            f"subset {name}: {size} images need {needed} of every class, "
            f"{source.class_names[short[0]]!r} has {present[short[0]]}; ask for fewer, or 'all'"
        )
    return size


@dataclass(frozen=True)
class _Image:
    """An image as a subset has it; the mean of its channels, and of their squares, 0 to 1."""

    pixels: NDArray[np.uint8]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]


def _read(split: Split, image_size: int, index: int) -> _Image | UserError:
    try:
        pixels = resize(split.read(index), image_size)
    except UserError as error:
        return error
    scaled = pixels.reshape(-1, 3) / 255.0
    return _Image(pixels, scaled.mean(axis=0), (scaled**2).mean(axis=0))


@dataclass
class _Cut:
    """Writes subsets of one source; with a `root`, the images stay in their files."""

    source: Source
    image_size: int
    seed: int
    root: str
    damaged: dict[str, None] = field(default_factory=dict)  # in the order met, each once

    def write(self, name: str, split: Split, indices: NDArray[np.int64], new: Path) -> SubsetInfo:
        """Write a subset into a new folder; images that cannot be read are kept in `damaged`."""
        images: Any = (
            self._index(split, indices, new)
            if self.root
            else _array(new / IMAGES, (len(indices), self.image_size, self.image_size, 3))
        )
        total, squares = np.zeros(3), np.zeros(3)
        read = partial(_read, split, self.image_size)
        for row, image in enumerate(read_ahead(read, indices.tolist())):
            if isinstance(image, UserError):
                self.damaged[str(image)] = None
                continue
            if not self.root:
                images[row] = image.pixels
            total += image.mean
            squares += image.squares
        if not self.root:
            images.flush()
        labels = split.labels[indices]
        np.save(new / LABELS, labels)
        mean = total / len(indices)
        class_names = list(self.source.class_names)
        info = SubsetInfo(
            name=name,
            source=self.source.name,
            class_names=class_names,
            image_size=self.image_size,
            count=len(indices),
            mean=mean.round(6).tolist(),
            std=np.sqrt(np.maximum(squares / len(indices) - mean**2, 0)).round(6).tolist(),
            digest=content_digest(images, labels, class_names),
            seed=self.seed,
            indices=indices.tolist(),
            root=self.root,
        )
        write_json(new / DESCRIPTION, described(info))
        return info

    def _index(self, split: Split, indices: NDArray[np.int64], new: Path) -> ImageFiles:
        """Write where images lie, and their digests."""
        root = user_path(self.root, find_root())
        files = [split.files[i] for i in indices]
        members = [file for file in files if isinstance(file, Member)]
        holders = [file.shard if isinstance(file, Member) else file for file in files]
        paths = np.array([os.path.relpath(file, root).encode() for file in holders])
        found = b"".join(read_ahead(_sha256, files))
        digests = np.frombuffer(found, np.uint8).reshape(len(files), -1)
        np.save(new / PATHS, paths)
        np.save(new / DIGESTS, digests)
        places = np.array([(member.start, member.size) for member in members]) if members else None
        if places is not None:
            np.save(new / PLACES, places)
        return ImageFiles(root, paths, digests, self.image_size, places)


def _sha256(file: Readable) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Make a file of pixels to be filled."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    # A sparse file's blocks are allocated now: on a full disk, writing to the map kills us.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
