"""WebDataset: images and their classes as members of tar files (shards), read where they lie.

A sample is all members of one name up to its first dot: `0007.jpg` is the image, `0007.cls` the
number of its class, or `0007.json` holds it as `label` (https://github.com/webdataset/webdataset).
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.config import CLASSES
from zoo.data.image_files import IMAGE_SUFFIXES, is_shown, read_ahead
from zoo.errors import UserError, brief
from zoo.files import read_text

CLASS_NAMES = ("classnames.txt", "classes.txt")
# A word of a shard's name, or of its folder's, says what it is for.
TRAIN, TEST = {"train", "training"}, {"test", "testing", "val", "valid", "validation"}


@dataclass(frozen=True)
class Member:
    """A file inside of a tar that is not compressed: its bytes in it."""

    shard: Path
    name: str
    start: int
    size: int

    def read_bytes(self) -> bytes:
        """Return its content, as a `Path` does."""
        with self.shard.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def relative_to(self, root: Path) -> Path:
        """Return how it is named below a folder, as a `Path` does."""
        return self.shard.relative_to(root) / self.name

    def __str__(self) -> str:
        return str(self.shard / self.name)


Samples = tuple[NDArray[np.int64], tuple[Member, ...]]  # classes (n,) of images


def read_shards(root: Path) -> tuple[tuple[str, ...], list[Samples]]:
    """Return classes and samples: to train on and to test on, or of one pool.

    Args:
        root: holds `*.tar`, at any depth: `train-0000.tar` and `val-0000.tar`, or others, which are
            one pool. `classnames.txt`, a line a class, names the classes; else they are numbers.

    Raises:
        UserError: there are none, their names do not tell what they are for, one is damaged or
            compressed, or a sample lacks its image or its class.
    """
    shards = sorted(p for p in root.rglob("*.tar") if is_shown(p.name) and p.is_file())
    if not shards:
        raise UserError(f"{root}: no shards; expected *.tar files of WebDataset")
    parts = {shard: _part(shard.relative_to(root)) for shard in shards}
    kinds = set(parts.values())
    if "" in kinds and len(kinds) > 1:
        unnamed = next(shard for shard, kind in parts.items() if not kind)
        raise UserError(
            f"{root}: expected train or test (or val) in the name of each shard, or of none; "
            f"got {unnamed.name} beside others"
        )
    found = dict(zip(shards, read_ahead(lambda shard: [*_samples(shard)], shards), strict=True))
    split = {
        kind: _joined([sample for p in shards if parts[p] == kind for sample in found[p]])
        for kind in kinds
    }
    classes = _class_names(root, max(int(labels.max()) for labels, _ in split.values()) + 1)
    if len(classes) < 2:
        raise UserError(f"{root}: expected images of two or more classes, got those of one")
    return classes, [split[kind] for kind in ("train", "test", "") if kind in split]


def _part(path: Path) -> str:
    words = set(re.split(r"[^a-z]+", str(path).lower()))
    return "train" if words & TRAIN else "test" if words & TEST else ""


def _joined(samples: Sequence[tuple[Member, int]]) -> Samples:
    images, labels = zip(*samples, strict=True)
    return np.array(labels, np.int64), images


def _samples(shard: Path) -> Iterator[tuple[Member, int]]:
    sample: dict[str, Member] = {}
    key = ""
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if not member.isreg() or member.issparse() or not is_shown(name):
                    continue
                stem, _, suffix = name.partition(".")
                begun = member.name.removesuffix(name) + stem
                if begun != key and sample:
                    yield _sample(shard, key, sample)
                    sample = {}
                key = begun
                shown = member.name.encode(errors="replace").decode()
                sample[suffix.lower()] = Member(shard, shown, member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"{shard}: damaged or compressed ({brief(error)}); expected a plain tar, whose images "
            "are read where they lie"
        ) from None
    except OSError as error:
        raise UserError(f"{shard}: cannot be read ({error.strerror})") from None
    if not sample:
        raise UserError(f"{shard}: no samples in it")
    yield _sample(shard, key, sample)


def _sample(shard: Path, key: str, members: dict[str, Member]) -> tuple[Member, int]:
    images = [member for suffix, member in members.items() if f".{suffix}" in IMAGE_SUFFIXES]
    if len(images) != 1:
        raise UserError(
            f"{shard}: expected one image in sample {key!r}, got {', '.join(members)}; images end "
            f"in {', '.join(IMAGE_SUFFIXES)}"
        )
    for suffix in ("cls", "json"):
        if suffix in members:
            return images[0], _label(members[suffix])
    raise UserError(
        f"{shard}: sample {key!r} has no class: expected a member {key}.cls with its number, or "
        f"{key}.json with it as label"
    )


def _label(member: Member) -> int:
    content = member.read_bytes()[:100_000]
    try:
        number = json.loads(content)
        number = number["label"] if isinstance(number, dict) else number
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < CLASSES.high:
            return number
    except (ValueError, KeyError, RecursionError):
        pass
    raise UserError(
        f"{member}: expected the number of a class, below {CLASSES.high:.0f}, got {content[:40]!r}"
    )


def _class_names(root: Path, count: int) -> tuple[str, ...]:
    for name in CLASS_NAMES:
        if (root / name).is_file():
            lines = [line.strip() for line in _text(root / name).splitlines() if line.strip()]
            if len(lines) < count:
                raise UserError(
                    f"{root / name}: expected a line for each of {count} classes, got {len(lines)}"
                )
            return tuple(lines)
    return tuple(map(str, range(count)))


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected UTF-8, a class's name a line") from None
