"""Images that models are compared on: a subset's, or whatever pictures lie in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.image_files import (
    find_images,
    other_files,
    read_image,
    resize,
    warn_left_out,
)
from zoo.data.sources import Split
from zoo.data.subsets import Subset, content_digest
from zoo.errors import UserError, counted
from zoo.measures.sampling import balanced_order

LARGEST_SIDE = 256  # pixels: what a network of 224 is usually given before its own crop
SHOWN = 20  # damaged pictures that are named
SPLITS = {"train", "test"}


@dataclass(frozen=True)
class EvaluationImages:
    """Images (n, side, side, 3) uint8, with labels (n,) where they are known.

    `digest` is over pixels, labels and class names; `source` says where they come from, and `split`
    which part of it they are. `files` are theirs, if they were read as pictures of any size.
    `as_given` is their digest in the order in which they came, if they were put in another.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    class_names: list[str]
    digest: str
    source: str
    split: str = ""
    files: tuple[Path, ...] = ()
    as_given: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def dataset_digest(self) -> str:
        """What names the images as a dataset, which is the same in whatever order they are seen."""
        return self.as_given or self.digest

    @classmethod
    def of(cls, subset: Subset) -> EvaluationImages:
        """Return the images of a subset."""
        info = subset.info
        return cls(
            subset.images, subset.labels, info.class_names, info.digest, info.source, info.name
        )

    def first(self, count: int | None) -> EvaluationImages:
        """Return the first images, with a digest of their own; all where there are no more."""
        if count is None or count >= len(self):
            return self
        return self._take(slice(count))

    def evenly(self, count: int) -> EvaluationImages:
        """Return at most so many images, evenly over the classes, with a digest of their own.

        They are in a balanced order, so that batches hold all classes alike. Without labels they
        are the first ones.
        """
        if self.labels is None:
            return self.first(count)
        return self._take(balanced_order(np.asarray(self.labels), seed=0)[:count])

    def _take(self, chosen: Any) -> EvaluationImages:
        images, labels = self.images[chosen], None if self.labels is None else self.labels[chosen]
        digest = _digest(images, labels, self.class_names)
        files = tuple(np.array(self.files, object)[chosen]) if self.files else ()
        as_given = self.dataset_digest if len(images) == len(self) else ""
        return replace(
            self, images=images, labels=labels, digest=digest, files=files, as_given=as_given
        )

    @property
    def originals(self) -> Split:
        """The images as they were before they became squares of one size."""
        labels = np.zeros(len(self), np.int64) if self.labels is None else np.asarray(self.labels)
        if self.files:
            return Split(labels, lambda i: read_image(self.files[i]), self.files)
        return Split(labels, lambda i: self.images[i])

    def numbered_as(self, known: Sequence[Sequence[str]]) -> EvaluationImages:
        """Return the images with labels that count the classes of a model.

        Args:
            known: the class names of several models, in their order; the first ones that hold all
                of the images' are taken. Where none do, or a model has just these, the images stay
                as they are.
        """
        theirs = next((list(names) for names in known if set(self.class_names) <= set(names)), [])
        if self.labels is None or not theirs or self.class_names in map(list, known):
            return self
        number = np.array([theirs.index(name) for name in self.class_names])
        return replace(self, labels=number[self.labels], class_names=theirs)


def read_pictures(folder: Path, count: int | None = None) -> EvaluationImages:
    """Read pictures of any size as squares of one size.

    Each is cropped to its centre square; all are as large as the largest square, at most 256
    pixels a side. Where every picture lies in a folder for its class, of two or more, those are
    its labels; otherwise there are none.

    Args:
        folder: holds pictures, at any depth.
        count: how many are read, evenly over the classes, else drawn at random; all by default.

    Raises:
        UserError: no pictures, damaged ones (all are named), or folders of splits.
    """
    files = find_images(folder)
    warn_left_out(folder, other_files(folder))
    inside = [path.relative_to(folder).parts[0] for path in files if path.parent != folder]
    names = sorted(set(inside))
    if set(names) >= SPLITS:
        raise UserError(f"{folder} holds train and test: name one of them, as {folder / 'test'}")
    known = len(inside) == len(files) and len(names) > 1
    labels = np.array([names.index(name) for name in inside] if known else [0] * len(files))
    order = balanced_order(labels, seed=0)[:count]
    squares, damaged = [], []
    for i in order:
        try:
            picture = read_image(files[i])
            squares.append(resize(picture, min(LARGEST_SIDE, *picture.shape[:2])))
        except UserError as error:
            damaged.append(str(error))
    if damaged:
        told = "; ".join([*sorted(damaged)[:SHOWN], *["…"] * (len(damaged) > SHOWN)])
        raise UserError(f"{counted(len(damaged), 'picture')} cannot be used: {told}")
    side = max(len(square) for square in squares)
    images = np.stack([resize(square, side) for square in squares])
    seen = labels[order] if known else None
    names = names if known else []
    return EvaluationImages(
        images,
        seen,
        names,
        _digest(images, seen, names),
        folder.resolve().name,
        files=tuple(files[i] for i in order),
    )


def _digest(
    images: NDArray[np.uint8], labels: NDArray[np.int64] | None, class_names: list[str]
) -> str:
    return content_digest(images, np.zeros(0, np.int64) if labels is None else labels, class_names)
