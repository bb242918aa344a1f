"""Sources of labelled images, by name.

A source gives two splits, each with its labels at hand and its images read one at a time, so
that no large dataset is ever held in memory by zoo itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.image_files import (
    check_utf8,
    find_images,
    grey_to_rgb,
    is_shown,
    other_files,
    read_image,
    warn_left_out,
)
from zoo.data.shards import Member, read_shards
from zoo.errors import UserError, unknown
from zoo.measures.sampling import stratified_split

TEST_FRACTION = 0.2
SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclass(frozen=True)
class Split:
    """Labelled images: `labels` (n,) int64 and `read(i)` giving uint8 (height, width, 3).

    `files` are theirs, where images lie in files, or in members of shards.
    """

    labels: NDArray[np.int64]
    read: Callable[[int], NDArray[np.uint8]]
    files: tuple[Path | Member, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Return the split that holds only these images, in this order."""
        files = tuple(self.files[i] for i in indices) if self.files else ()
        return Split(self.labels[indices], lambda i: self.read(int(indices[i])), files)


@dataclass(frozen=True)
class Source:
    """A dataset with a train and a test split and the names of its classes.

    `drawn` says that the test split was drawn from images that come without one; `left_out` are
    files that are no images.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    drawn: bool = False
    left_out: tuple[Path, ...] = ()


def load_source(name: str, root: Path, *, seed: int = 0) -> Source:
    """Open a source, with a warning where files in its folder are left out.

    Args:
        name: one of `SOURCES`.
        root: folder with the source's files; torchvision's sources are downloaded into it.
        seed: splits sources that come without a test split.

    Raises:
        UserError: unknown name, missing or damaged files.
    """
    source = open_source(name, root, seed=seed)
    warn_left_out(root, source.left_out)
    return source


def open_source(name: str, root: Path, *, seed: int = 0) -> Source:
    """Open a source as `load_source` does, without its warning."""
    return SOURCES[check_source(name)](root, seed)


def check_source(name: str) -> str:
    """Return the name of a source, or raise `UserError`; nothing is read."""
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return name


def _split_once(
    name: str,
    class_names: Sequence[str],
    everything: Split,
    seed: int,
    left_out: tuple[Path, ...] = (),
) -> Source:
    train, test = stratified_split(everything.labels, TEST_FRACTION, seed, class_names)
    drawn = everything.take(train), everything.take(test)
    return Source(name, tuple(class_names), *drawn, drawn=True, left_out=left_out)


def _digits(root: Path, seed: int) -> Source:
    """Handwritten digits bundled with scikit-learn: 1,797 grey images of 8×8 pixels, 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    names = [str(digit) for digit in bunch.target_names]
    return _split_once("digits", names, Split(labels, lambda i: grey_to_rgb(grey[i])), seed)


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
        train, test = (_folder_split(root / part, class_names) for part in ("train", "test"))
        left_out = (*other_files(root / "train"), *other_files(root / "test"))
        return Source("imagefolder", class_names, train, test, left_out=left_out)
    _check_no_splits(root)
    class_names = _class_folders(root)
    everything = _folder_split(root, class_names)
    return _split_once("imagefolder", class_names, everything, seed, tuple(other_files(root)))


def labelled_folder(root: Path) -> tuple[tuple[str, ...], Split]:
    """Return the classes and the images to test on of a folder: its `test`, or all of it.

    Raises:
        UserError: it is not there, or holds no folders of classes with images.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}; expected <class>/<image> folders in it")
    if (root / "test").is_dir() and _holds_only_folders(root / "test"):
        root = root / "test"
    else:
        _check_no_splits(root)
    class_names = _class_folders(root)
    warn_left_out(root, other_files(root))
    return class_names, _folder_split(root, class_names)


def _class_folders(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and is_shown(p.name)))
    check_utf8(names, root)
    if len(names) < 2:
        came = ", ".join(names) or "none"
        raise UserError(f"{root}: expected a folder for each of two or more classes, got {came}")
    return names


def _check_no_splits(root: Path) -> None:
    """Raise `UserError` where splits would be taken for classes."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and is_shown(p.name))
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
    shown = [p for p in folder.iterdir() if is_shown(p.name)]
    return bool(shown) and all(p.is_dir() for p in shown)


def _folder_split(root: Path, class_names: Sequence[str]) -> Split:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = find_images(root / name)
        files += found
        labels += [label] * len(found)
    return _file_split(np.array(labels, dtype=np.int64), tuple(files))


def _file_split(labels: NDArray[np.int64], files: tuple[Path | Member, ...]) -> Split:
    return Split(labels, lambda i: read_image(files[i]), files)


def _webdataset(root: Path, seed: int) -> Source:
    """`root/train-*.tar` and `root/test-*.tar`, or shards of one pool to split."""
    if not root.is_dir():
        raise UserError(f"no folder {root}; expected *.tar files of WebDataset in it")
    class_names, parts = read_shards(root)
    splits = [_file_split(*part) for part in parts]
    if len(splits) == 1:
        return _split_once("webdataset", class_names, splits[0], seed)
    train, test = splits
    return Source("webdataset", class_names, train, test)


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
            return grey_to_rgb(image)
        # SVHN keeps channels first.
        return image.transpose(1, 2, 0) if image.shape[0] == 3 else image

    return Split(np.asarray(labels, dtype=np.int64), read)


_TRAIN_FLAG = ({"train": True}, {"train": False})

SOURCES: dict[str, Callable[[Path, int], Source]] = {
    "digits": _digits,
    "imagefolder": _imagefolder,
    "webdataset": _webdataset,
    "cifar10": _torchvision("cifar10", "CIFAR10", _TRAIN_FLAG),
    "cifar100": _torchvision("cifar100", "CIFAR100", _TRAIN_FLAG),
    "fashion_mnist": _torchvision("fashion_mnist", "FashionMNIST", _TRAIN_FLAG),
    "svhn": _torchvision(
        "svhn", "SVHN", ({"split": "train"}, {"split": "test"}), tuple("0123456789")
    ),
}
