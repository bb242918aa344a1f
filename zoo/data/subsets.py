"""Subsets of images as folders, read as memory maps (`zoo.data.build` writes them).

A folder holds `images.npy` (n, height, width, 3) uint8, `labels.npy` (n,) int64 and
`subset.json`. Where there are too many pixels, the images stay in their files: in place of
`images.npy` stand `paths.npy` (n,) and `digests.npy` (n, 32) uint8, and for those in shards
`places.npy` (n, 2) int64. Subsets of one source are nested: a smaller one is a prefix of the same
order.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config.mapping import from_mapping
from zoo.data.undecoded import ImageFiles
from zoo.errors import UserError, brief
from zoo.files import find_root, read_json, user_path
from zoo.files.folders import FolderKind

IMAGES, LABELS, DESCRIPTION = "images.npy", "labels.npy", "subset.json"
PATHS, DIGESTS, PLACES = "paths.npy", "digests.npy", "places.npy"
SUBSET = FolderKind(
    DESCRIPTION, ("digest", "indices"), files=(IMAGES, LABELS, PATHS, DIGESTS, PLACES)
)


@dataclass(frozen=True)
class SubsetInfo:
    """What `subset.json` holds; `digest` is over pixels, labels and class names.

    Where images stay in their files, `root` is their folder, as params.yaml names it, and `digest`
    is over the files' digests.
    """

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
    root: str = ""


def described(info: SubsetInfo) -> dict[str, Any]:
    """Return what `subset.json` holds; `root` where images stay in their files."""
    return {k: v for k, v in dataclasses.asdict(info).items() if k != "root" or v}


@dataclass(frozen=True)
class Subset:
    """Images (n, height, width, 3) uint8 and labels (n,) int64, both memory maps.

    Images that stay in their files are indexed like an array, and decoded then.
    """

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
    images: Any = _files(folder, info) if info.root else _open_array(folder / IMAGES, np.uint8)
    labels = _open_array(folder / LABELS, np.int64)
    expected = (info.count, info.image_size, info.image_size, 3)
    if images.shape != expected or labels.shape != expected[:1]:
        raise UserError(
            f"{folder} is damaged: expected images {expected}, got {images.shape} "
            f"and labels {labels.shape}; build it again with: dvc repro --force subset"
        )
    return Subset(images, labels, info)


def verify_subset(subset: Subset) -> None:
    """Read every byte and raise `UserError` unless the digest is the one written down.

    Of images in files, those are the bytes of the index: a file is checked when it is decoded.
    """
    digest = content_digest(subset.images, subset.labels, subset.info.class_names)
    if digest != subset.info.digest:
        raise UserError(
            f"subset {subset.info.name} is damaged: expected digest {subset.info.digest[:12]}, "
            f"got {digest[:12]}; build it again with: dvc repro --force subset"
        )


def content_digest(
    images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: list[str]
) -> str:
    """Return the sha256 over pixels, labels and class names, 1,024 images at a time.

    Images that stay in their files count by the digests of those.
    """
    digest = hashlib.sha256(repr((images.shape, list(class_names))).encode())
    content = images.digests if isinstance(images, ImageFiles) else images
    for start in range(0, len(content), 1024):
        digest.update(np.ascontiguousarray(content[start : start + 1024]).tobytes())
    digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()


def _files(folder: Path, info: SubsetInfo) -> ImageFiles:
    root = user_path(info.root, find_root())
    if not root.is_dir():
        raise UserError(
            f"{folder}: its images stay in {root}, which is not there; bring that folder back, or "
            "name it in params.yaml (data.root) and run: dvc repro --force subset"
        )
    paths, digests = (
        _open_array(folder / PATHS, np.bytes_),
        _open_array(folder / DIGESTS, np.uint8),
    )
    places = _open_array(folder / PLACES, np.int64) if (folder / PLACES).exists() else None
    fit = places is None or places.shape == (info.count, 2)
    if not fit or paths.shape != (info.count,) or digests.shape != (info.count, 32):
        raise UserError(
            f"{folder} is damaged: expected {info.count} paths with digests of 32 bytes, got "
            f"{paths.shape} and {digests.shape}; build it again with: dvc repro --force subset"
        )
    return ImageFiles(root, paths, digests, info.image_size, places)


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
    if array.dtype.type != dtype:
        raise UserError(f"{path}: expected {np.dtype(dtype)}, got {array.dtype}")
    return array
