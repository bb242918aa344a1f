"""Sources of labelled images, by name.

A source gives two splits, each with its labels at hand and its images read one at a time, so
that no large dataset is ever held in memory by zoo itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.sampling import stratified_split
from zoo.errors import UserError, unknown

TEST_FRACTION = 0.2
logger = logging.getLogger(__name__)
IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclass(frozen=True)
class Split:
    """Labelled images: `labels` (n,) int64 and `read(i)` giving uint8 (height, width, 3)."""

    labels: NDArray[np.int64]
    read: Callable[[int], NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Return the split that holds only these images, in this order."""
        return Split(self.labels[indices], lambda i: self.read(int(indices[i])))


@dataclass(frozen=True)
class Source:
    """A dataset with a train and a test split and the names of its classes."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split


def load_source(name: str, root: Path, *, seed: int = 0) -> Source:
    """Open a source.

    Args:
        name: one of `SOURCES`.
        root: folder with the source's files; torchvision's sources are downloaded into it.
        seed: splits sources that come without a test split.

    Raises:
        UserError: unknown name, missing or damaged files.
    """
    return SOURCES[check_source(name)](root, seed)


def check_source(name: str) -> str:
    """Return the name of a source, or raise `UserError`; nothing is read."""
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return name


def _split_once(name: str, class_names: Sequence[str], everything: Split, seed: int) -> Source:
    train, test = stratified_split(everything.labels, TEST_FRACTION, seed, class_names)
    return Source(name, tuple(class_names), everything.take(train), everything.take(test))


def _digits(root: Path, seed: int) -> Source:
    """Handwritten digits bundled with scikit-learn: 1,797 grey images of 8×8 pixels, 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    names = [str(digit) for digit in bunch.target_names]
    return _split_once("digits", names, Split(labels, lambda i: _rgb(grey[i])), seed)


def _imagefolder(root: Path, seed: int) -> Source:
    """`root/train/<class>/*` and `root/test/<class>/*`, or a lone `root/<class>/*` to split."""
    if not root.is_dir():
        raise UserError(f"no folder {root}; expected <class>/<image> folders in it")
    if (root / "train").is_dir() and (root / "test").is_dir():
        class_names = _class_folders(root / "train")
        tested = _class_folders(root / "test")
        if tested != class_names:
            raise UserError(
                f"{root}: train and test hold different classes; only in one of them: "
                f"{', '.join(sorted(set(class_names) ^ set(tested)))}"
            )
        train = _folder_split(root / "train", class_names)
        return Source("imagefolder", class_names, train, _folder_split(root / "test", class_names))
    _check_no_splits(root)
    class_names = _class_folders(root)
    return _split_once("imagefolder", class_names, _folder_split(root, class_names), seed)


def _class_folders(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and _is_shown(p.name)))
    _check_utf8(names, root)
    if len(names) < 2:
        raise UserError(f"{root}: expected a folder for each of two or more classes, got {names}")
    return names


def _check_no_splits(root: Path) -> None:
    """Raise `UserError` where splits would be taken for classes."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and _is_shown(p.name))
    named = [p for p in folders if p.name.lower() in SPLIT_NAMES]
    # A class may be called `train`, among others; it holds images.
    wrong = named if named == folders else [p for p in named if _holds_only_folders(p)]
    if wrong:
        raise UserError(
            f"{root}: {', '.join(p.name for p in wrong)} cannot be classes; expected "
            "train/<class>/<image> and test/<class>/<image> (a `val` to be tested on is to be "
            "renamed `test`), or <class>/<image>"
        )


def _holds_only_folders(folder: Path) -> bool:
    shown = [p for p in folder.iterdir() if _is_shown(p.name)]
    return bool(shown) and all(p.is_dir() for p in shown)


def _is_shown(name: str) -> bool:
    # macOS leaves `._cat.png` and `__MACOSX` behind, Jupyter `.ipynb_checkpoints`.
    return not name.startswith(".") and name != "__MACOSX"


def _check_utf8(names: Iterable[str], folder: Path) -> None:
    """Raise `UserError` for a name in another encoding, which no report or JSON could hold."""
    for name in names:
        if name != name.encode(errors="replace").decode():
            raise UserError(f"{folder}: expected names in UTF-8, got {name!a}: rename it")


def _folder_split(root: Path, class_names: Sequence[str]) -> Split:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = find_images(root / name)
        files += found
        labels += [label] * len(found)
        there = [p for p in (root / name).rglob("*") if p.is_file() and _is_shown(p.name)]
        if left_out := sorted(set(there) - set(found)):
            logger.warning(
                "%s: %d left out, which have no image's suffix (%s%s); expected %s",
                root / name,
                len(left_out),
                ", ".join(p.name for p in left_out[:3]),
                ", …" if len(left_out) > 3 else "",
                ", ".join(IMAGE_SUFFIXES),
            )
    return Split(np.array(labels, dtype=np.int64), lambda i: read_image(files[i]))


def find_images(path: Path) -> list[Path]:
    """Return a folder's image files, at any depth, in their names' order; a file is itself.

    What is hidden, in the folder or below, is left out.

    Raises:
        UserError: there is no such file or folder, or no image in it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"no file or folder {path}")
    found = sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES
        and all(map(_is_shown, p.relative_to(path).parts))
        and p.is_file()  # not a pipe, which would be waited for
    )
    _check_utf8((p.name for p in found), path)
    if not found:
        raise UserError(f"{path}: no images; expected {', '.join(IMAGE_SUFFIXES)}")
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as (height, width, 3) uint8, the way up that its camera noted.

    Raises:
        UserError: it is no image, or damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = _upright(opened)
            if image.mode.startswith("I;16"):
                # Pillow would clip the 16 bits at 255: nearly all of them white.
                return _rgb((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode not in ("I", "F"):
                return np.asarray(image.convert("RGB"))
            mode = image.mode
    except Exception as error:
        # Pillow's decoders raise whatever they met: struct, zlib, ValueError, too many pixels.
        raise UserError(f"{path}: damaged image ({error}); mend or remove it") from None
    raise UserError(
        f"{path}: expected 8 or 16 bits a channel, got 32 (Pillow's mode {mode}); "
        "convert it to 8 bits"
    )


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image  # what a damaged EXIF block says is not known; the pixels may be whole


def _rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _torchvision(
    name: str, class_name: str, splits: tuple[dict, dict], names: tuple[str, ...] = ()
) -> Callable:
    def load(root: Path, seed: int) -> Source:
        import torchvision

        kind = getattr(torchvision.datasets, class_name)
        opened = []
        for arguments in splits:
            try:
                opened.append(kind(root=str(root), download=True, **arguments))
            except Exception as error:
                # torchvision raises whatever urllib, tarfile, pickle, gzip or SciPy did.
                raise UserError(
                    f"{name}: could not be read from {root} nor downloaded "
                    f"({type(error).__name__}: {error}); with no network, put its original "
                    f"files there, or remove damaged ones"
                ) from None
        train, test = opened
        return Source(name, names or tuple(train.classes), _array_split(train), _array_split(test))

    return load


def _array_split(dataset: object) -> Split:
    labels = getattr(dataset, "targets", None)
    if labels is None:
        labels = dataset.labels  # type: ignore[attr-defined]
    images = np.asarray(dataset.data)  # type: ignore[attr-defined]

    def read(i: int) -> NDArray[np.uint8]:
        image = images[i]
        if image.ndim == 2:
            return _rgb(image)
        # SVHN keeps channels first.
        return image.transpose(1, 2, 0) if image.shape[0] == 3 else image

    return Split(np.asarray(labels, dtype=np.int64), read)


_TRAIN_FLAG = ({"train": True}, {"train": False})

SOURCES: dict[str, Callable[[Path, int], Source]] = {
    "digits": _digits,
    "imagefolder": _imagefolder,
    "cifar10": _torchvision("cifar10", "CIFAR10", _TRAIN_FLAG),
    "cifar100": _torchvision("cifar100", "CIFAR100", _TRAIN_FLAG),
    "fashion_mnist": _torchvision("fashion_mnist", "FashionMNIST", _TRAIN_FLAG),
    "svhn": _torchvision(
        "svhn", "SVHN", ({"split": "train"}, {"split": "test"}), tuple("0123456789")
    ),
}
