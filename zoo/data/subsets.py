"""Nested, class-balanced, seeded subsets, kept as memory-mapped folders.

A folder holds `images.npy` (n, height, width, 3) uint8, `labels.npy` (n,) int64 and
`subset.json`. Subsets of one source are nested: a smaller one is a prefix of the same order.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config import from_mapping
from zoo.data.sources import Source, Split, stratified_split
from zoo.errors import UserError
from zoo.files import read_json, replacing_folder, write_json

HELD_OUT = ("validation", "test")
IMAGES, LABELS, DESCRIPTION = "images.npy", "labels.npy", "subset.json"


@dataclass(frozen=True)
class SubsetInfo:
    """What `subset.json` holds; `digest` is over pixels, labels and class names."""

    name: str
    source: str
    class_names: list[str]
    image_size: int
    count: int
    mean: list[float]
    std: list[float]
    digest: str
    seed: int
    indices: list[int]


@dataclass(frozen=True)
class Subset:
    """Images (n, height, width, 3) uint8 and labels (n,) int64, both memory maps."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    info: SubsetInfo

    def __len__(self) -> int:
        return len(self.labels)


def build_subsets(
    source: Source,
    sizes: Mapping[str, int | str],
    folder: Path,
    *,
    image_size: int,
    validation: float,
    seed: int,
) -> dict[str, SubsetInfo]:
    """Write every subset, and the `validation` and `test` splits that all of them share.

    Args:
        source: the images.
        sizes: subset name -> number of images, or `all`.
        folder: each subset becomes a folder in it.
        image_size: pixels a side; images are resized and centre-cropped to it.
        validation: share of every class of the train split that is held out.
        seed: decides the order; the same seed gives the same subsets on every machine.

    Raises:
        UserError: a size that the data cannot give, a reserved name, a class with too few images.
    """
    for name in sizes:
        if name in HELD_OUT:
            raise UserError(f"subsets: {name!r} is the name of a held-out split; choose another")
    pool, held_out = stratified_split(source.train.labels, validation, seed)
    order = pool[balanced_order(source.train.labels[pool], seed)]
    counts = {name: _count(name, size, source, pool) for name, size in sizes.items()}
    chosen = {name: order[:count] for name, count in counts.items()} | {"validation": held_out}
    infos = {
        name: _write(name, source, source.train, indices, folder / name, image_size, seed)
        for name, indices in chosen.items()
    }
    everything = np.arange(len(source.test), dtype=np.int64)
    infos["test"] = _write(
        "test", source, source.test, everything, folder / "test", image_size, seed
    )
    return infos


def balanced_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order indices so that every prefix is class-balanced within one image a class.

    That holds for as long as no class has run out; the rest of the larger classes follows.

    >>> labels = np.array([0, 0, 1, 1])
    >>> labels[balanced_order(labels, seed=0)].tolist()
    [0, 1, 0, 1]
    """
    random = np.random.RandomState(seed)
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[random.permutation(members)] = np.arange(len(members))
    return np.lexsort((labels, rank)).astype(np.int64)


def load_subset(folder: Path) -> Subset:
    """Open a subset as memory maps; raise `UserError` where a file is missing or damaged."""
    info = from_mapping(SubsetInfo, read_json(folder / DESCRIPTION), str(folder / DESCRIPTION))
    images = _open_array(folder / IMAGES, np.uint8)
    labels = _open_array(folder / LABELS, np.int64)
    expected = (info.count, info.image_size, info.image_size, 3)
    if images.shape != expected or labels.shape != expected[:1]:
        raise UserError(
            f"{folder} is damaged: expected images {expected}, got {images.shape} "
            f"and {labels.shape[0]} labels; build it again with: dvc repro --force subset"
        )
    return Subset(images, labels, info)


def verify_subset(subset: Subset) -> None:
    """Read every byte and raise `UserError` unless the digest is the one written down."""
    digest = content_digest(subset.images, subset.labels, subset.info.class_names)
    if digest != subset.info.digest:
        raise UserError(
            f"subset {subset.info.name} is damaged: expected digest {subset.info.digest[:12]}, "
            f"got {digest[:12]}; build it again with: dvc repro --force subset"
        )


def content_digest(
    images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: list[str]
) -> str:
    """Return the sha256 over pixels, labels and class names, 1,024 images at a time."""
    digest = hashlib.sha256(repr((images.shape, list(class_names))).encode())
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]).tobytes())
    digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()


def _count(name: str, size: int | str, source: Source, pool: NDArray[np.int64]) -> int:
    if size == "all":
        return len(pool)
    if not isinstance(size, int) or size < 1:
        raise UserError(f"subsets.{name}: expected a number of images or 'all', got {size!r}")
    if size > len(pool):
        raise UserError(
            f"subsets.{name}: {size} images asked for, {source.name} has {len(pool)} to train on"
        )
    classes = len(source.class_names)
    needed = -(-size // classes)
    present = np.bincount(source.train.labels[pool], minlength=classes)
    # Within one image a class: the first `size % classes` classes give one more.
    wanted = size // classes + (np.arange(classes) < size % classes)
    if (short := np.flatnonzero(present < wanted)).size:
        raise UserError(
            f"subsets.{name}: {size} images need {needed} of every class, "
            f"{source.class_names[short[0]]!r} has {present[short[0]]}; ask for fewer, or 'all'"
        )
    return size


def _write(
    name: str,
    source: Source,
    split: Split,
    indices: NDArray[np.int64],
    folder: Path,
    image_size: int,
    seed: int,
) -> SubsetInfo:
    shape = (len(indices), image_size, image_size, 3)
    with replacing_folder(folder) as new:
        images = np.lib.format.open_memmap(new / IMAGES, mode="w+", dtype=np.uint8, shape=shape)
        total, squares = np.zeros(3), np.zeros(3)
        for row, index in enumerate(indices):
            images[row] = resize(split.read(int(index)), image_size)
            scaled = images[row].reshape(-1, 3) / 255.0
            total += scaled.mean(axis=0)
            squares += (scaled**2).mean(axis=0)
        images.flush()
        labels = split.labels[indices]
        np.save(new / LABELS, labels)
        mean = total / len(indices)
        info = SubsetInfo(
            name=name,
            source=source.name,
            class_names=list(source.class_names),
            image_size=image_size,
            count=len(indices),
            mean=mean.round(6).tolist(),
            std=np.sqrt(np.maximum(squares / len(indices) - mean**2, 0)).round(6).tolist(),
            digest=content_digest(images, labels, list(source.class_names)),
            seed=seed,
            indices=indices.tolist(),
        )
        write_json(new / DESCRIPTION, dataclasses.asdict(info))
    return info


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale the shorter side to `size` pixels (bicubic) and crop the centre square."""
    from PIL import Image

    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    scaled = (max(size, round(width * scale)), max(size, round(height * scale)))
    picture = Image.fromarray(image).resize(scaled, Image.Resampling.BICUBIC)
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def _open_array(path: Path, dtype: type) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"no file {path}; build it with: dvc repro subset") from None
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{path} is damaged ({error}); build it again with: dvc repro --force subset"
        ) from None
    if array.dtype != dtype:
        raise UserError(f"{path}: expected {np.dtype(dtype)}, got {array.dtype}")
    return array
