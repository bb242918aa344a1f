"""Images that stay in their files, and are decoded where they are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.data.image_files import decode_image, resize
from zoo.errors import UserError


@dataclass(frozen=True)
class ImageFiles:
    """Images as an array (n, side, side, 3) uint8 would hold them, of which only an index is kept.

    `images[3]`, `images[10:20]` and `images[[1, 5]]` read the files asked for and give arrays.

    Attributes:
        root: the folder that holds the files.
        paths: (n,) their paths in it, as UTF-8.
        digests: (n, 32) uint8, the sha256 of each image: a changed one is an error when it is read.
        side: pixels; images are scaled and cropped to it.
        places: (n, 2) int64, where an image begins in its file, and of how many bytes it is; None
            where it is the whole file.
    """

    root: Path
    paths: NDArray[np.bytes_]
    digests: NDArray[np.uint8]
    side: int
    places: NDArray[np.int64] | None = None
    ndim: ClassVar[int] = 4
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array of all of them."""
        return (len(self), self.side, self.side, 3)

    def __getitem__(self, which: Any) -> NDArray[np.uint8]:
        """Return an image (side, side, 3), or several (k, side, side, 3).

        Raises:
            UserError: a file is gone, damaged, or another one than when the subset was cut.
        """
        paths, digests = self.paths[which], self.digests[which]
        places = None if self.places is None else self.places[which]
        if isinstance(paths, bytes):
            return self._read(paths, digests, places)
        images = np.empty((len(paths), *self.shape[1:]), np.uint8)
        for row, (path, digest) in enumerate(zip(paths, digests, strict=True)):
            images[row] = self._read(path, digest, None if places is None else places[row])
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of them, for NumPy."""
        return self[:].astype(dtype or np.uint8, copy=False)

    def _read(
        self, path: bytes, digest: NDArray[np.uint8], place: NDArray[np.int64] | None
    ) -> NDArray[np.uint8]:
        file = self.root / path.decode()
        start, size = (0, -1) if place is None else place.tolist()
        try:
            with file.open("rb") as opened:
                opened.seek(start)
                content = opened.read(size)
        except OSError as error:
            raise UserError(
                f"{file}: expected an image of this subset ({error.strerror}); bring it back, or "
                "cut the subsets again: dvc repro --force subset"
            ) from None
        if hashlib.sha256(content).digest() != digest.tobytes():
            raise UserError(
                f"{file} was changed since the subsets were cut; cut them again: "
                "dvc repro --force subset"
            )
        return resize(decode_image(content, file), self.side)
