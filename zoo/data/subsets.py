"""Subsets of images as folders, read as memory maps (`zoo.data.build` writes them).

A folder holds `images.npy` (n, height, width, 3) uint8, `labels.npy` (n,) int64 and
`subset.json`. Subsets of one source are nested: a smaller one is a prefix of the same order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config.mapping import from_mapping
from zoo.errors import UserError, brief
from zoo.files import read_json
from zoo.files.folders import FolderKind

IMAGES, LABELS, DESCRIPTION = "images.npy", "labels.npy", "subset.json"
SUBSET = FolderKind(DESCRIPTION, ("digest", "indices"), files=(IMAGES, LABELS))


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


def load_subset(folder: Path) -> Subset:
    """Open a subset as memory maps; raise `UserError` where a file is missing or damaged."""
    if not (folder / DESCRIPTION).is_file():
        raise UserError(
            f"no subset in {folder}: expected a folder with {DESCRIPTION}, such as "
            "data/subsets/test; `dvc repro subset` makes them"
        )
    content = read_json(folder / DESCRIPTION, fix="build it again with: dvc repro --force subset")
    info = from_mapping(SubsetInfo, content, str(folder / DESCRIPTION))
    images = _open_array(folder / IMAGES, np.uint8)
    labels = _open_array(folder / LABELS, np.int64)
    expected = (info.count, info.image_size, info.image_size, 3)
    if images.shape != expected or labels.shape != expected[:1]:
        raise UserError(
            f"{folder} is damaged: expected images {expected}, got {images.shape} "
            f"and labels {labels.shape}; build it again with: dvc repro --force subset"
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


def _open_array(path: Path, dtype: type) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"no file {path}; build it with: dvc repro subset") from None
    except OSError:
        raise
    except Exception as error:
        # NumPy reads the header as Python: a flipped bit in it can raise anything.
        raise UserError(
            f"{path} is damaged ({brief(error)}); build it again with: dvc repro --force subset"
        ) from None
    if array.dtype != dtype:
        raise UserError(f"{path}: expected {np.dtype(dtype)}, got {array.dtype}")
    return array
