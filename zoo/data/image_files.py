"""Image files: which ones lie in a folder, and their pixels."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError, counted

IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
NO_SUFFIX = "not an image suffix"
# What Pillow says of a damaged image stands in our own line.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
warnings.filterwarnings("ignore", "Image size .*decompression bomb")  # it is read all the same
AT_ONCE = 1024
logger = logging.getLogger(__name__)
Item = TypeVar("Item")
Found = TypeVar("Found")


def read_ahead(function: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[Found]:
    """Yield what a function reads for each item, in order, a part of them ahead on all cores."""
    with ThreadPoolExecutor() as pool:
        # In parts: the pool would else read all of them, however slowly they are taken.
        for start in range(0, len(items), AT_ONCE):
            yield from pool.map(function, items[start : start + AT_ONCE])


def other_files(folder: Path) -> list[Path]:
    """Return what `find_images` leaves out of a folder, at any depth; what is hidden aside.

    Files without an image's suffix, pipes, and links that lead nowhere.
    """
    return sorted(
        p
        for p in folder.rglob("*")
        if all(map(is_shown, p.relative_to(folder).parts)) and why_left_out(p)
    )


def why_left_out(path: Path) -> str:
    """Say why a file below a folder is not taken as an image; empty where it is, or is a folder."""
    if path.is_file():
        return "" if path.suffix.lower() in IMAGE_SUFFIXES else NO_SUFFIX
    if path.is_dir():
        return ""
    return "a link that leads nowhere" if path.is_symlink() else "not a file"


def warn_left_out(folder: Path, left_out: Sequence[Path]) -> None:
    """Log how many files of a folder are not taken as images, and why."""
    if left_out:
        why = list(dict.fromkeys(map(why_left_out, left_out)))
        named = ", ".join(path.name for path in left_out[:3]) + ", …" * (len(left_out) > 3)
        expected = f"; expected {', '.join(IMAGE_SUFFIXES)}" if NO_SUFFIX in why else ""
        logger.warning(
            "%s: %s left out (%s): %s%s",
            *(folder, counted(len(left_out), "file"), named, ", ".join(why), expected),
        )


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
        and all(map(is_shown, p.relative_to(path).parts))
        and p.is_file()  # not a pipe, which would be waited for
    )
    check_utf8((p.name for p in found), path)
    if not found:
        raise UserError(f"{path}: no images; expected {', '.join(IMAGE_SUFFIXES)}")
    return found


class Readable(Protocol):
    """What an image's bytes are read from: a `Path`, or a member of a shard."""

    def read_bytes(self) -> bytes:
        """Return its content."""


def read_image(path: Readable) -> NDArray[np.uint8]:
    """Read an image file as (height, width, 3) uint8, the way up that its camera noted.

    Raises:
        UserError: it is no image, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return decode_image(content, path)


def decode_image(content: bytes, path: object) -> NDArray[np.uint8]:
    """Return the pixels of an image file's bytes as `read_image` does; errors name `path`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = _upright(opened)
            if image.mode.startswith("I;16"):
                # Pillow would clip the 16 bits at 255: nearly all of them white.
                return grey_to_rgb((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode not in ("I", "F"):
                return np.asarray(image.convert("RGB"))
            mode = image.mode
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        message = f"{path}: expected an image of at most {most:,} pixels, got more: make it smaller"
        raise UserError(message) from None
    except UnidentifiedImageError:  # its text names an object in memory
        what = "its content is no image" if content else "it is empty"
        raise UserError(f"{path}: damaged image ({what}); repair or remove it") from None
    except Exception as error:
        # Pillow's decoders raise whatever they met: struct, zlib, ValueError.
        raise UserError(f"{path}: damaged image ({error}); repair or remove it") from None
    raise UserError(
        f"{path}: expected 8 or 16 bits a channel, got 32 (Pillow's mode {mode}); "
        "convert it to 8 bits"
    )


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


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image  # what a damaged EXIF block says is not known; the pixels may be whole


def is_shown(name: str) -> bool:
    """Say whether a file or folder is the user's own, and not left behind by a program."""
    # macOS leaves `._cat.png` and `__MACOSX` behind, Jupyter `.ipynb_checkpoints`.
    return not name.startswith(".") and name != "__MACOSX"


def check_utf8(names: Iterable[str], folder: Path) -> None:
    """Raise `UserError` for a name in another encoding, which no report or JSON could hold."""
    for name in names:
        if name != name.encode(errors="replace").decode():
            raise UserError(f"{folder}: expected names in UTF-8, got {name!a}: rename it")


def grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (height, width) as (height, width, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)
