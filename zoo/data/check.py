"""A look at a source's images before subsets are made: what is damaged, odd or does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.config import DataConfig
from zoo.data.build import subset_count
from zoo.data.image_files import find_images, read_ahead, read_image, why_left_out
from zoo.data.sources import Source, Split, open_source
from zoo.data.trained_on import pixel_digest
from zoo.errors import UserError, counted
from zoo.measures.sampling import stratified_split
from zoo.progress import OnProgress, no_progress

SHARES = {"medium": 3, "small": 10}  # one of so many training images
LONG = 2.0  # sides' ratio from which the centre square holds half of an image or less
WRONG, DAMAGED, LEAK, ODD, UNUSED = "wrong", "damaged", "leak", "odd", "unused"


@dataclass(frozen=True)
class Finding:
    """What was found: its kind, where (a file, or a key of params.yaml), and why."""

    kind: str
    what: str
    why: str


@dataclass(frozen=True)
class Parts:
    """What a source's images are cut into.

    `classes` counts train and test images of each class; `drawn` says that no test split came
    with them. `train` images are left once those for `validation` are held out; `proposed` are
    sizes of subsets that fit.
    """

    classes: dict[str, tuple[int, int]]
    drawn: bool
    train: int
    validation: int
    test: int
    proposed: dict[str, int | str]


@dataclass(frozen=True)
class DataCheck:
    """Images before subsets are cut.

    `sizes` (n, 2) are height and width in pixels of those that can be read; `parts` is None where
    the images cannot be divided.
    """

    findings: tuple[Finding, ...]
    sizes: NDArray[np.int64]
    parts: Parts | None

    @property
    def well(self) -> bool:
        """Whether subsets can be cut, and no test image is among the training images."""
        return not any(finding.kind in (WRONG, DAMAGED, LEAK) for finding in self.findings)


@dataclass(frozen=True)
class _Seen:
    """An image that was read: height and width in pixels, a digest of them, or what is wrong."""

    part: str
    name: str
    label: int
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    problem: str = ""


def check_data(
    data: DataConfig,
    root: Path,
    subsets: Mapping[str, int | str],
    on_progress: OnProgress = no_progress,
) -> DataCheck:
    """Read every image of a source, and say all that would stop its subsets or spoil them.

    Args:
        data: source, image size, share held out for validation, seed.
        root: where its images lie.
        subsets: name -> number of images, or `all`, which are to fit.

    Raises:
        UserError: there are no images at all.
    """
    findings: list[Finding] = []
    source = None
    try:
        source = open_source(data.source, root, seed=data.seed)
    except UserError as error:
        if data.source != "imagefolder" or not root.is_dir():
            raise
        # The folders are wrong; the images in them are looked at all the same.
        findings.append(Finding(WRONG, str(root), str(error).removeprefix(f"{root}: ")))
    splits = {"train": source.train, "test": source.test} if source else {"": _all_below(root)}
    total = sum(map(len, splits.values()))
    seen: list[_Seen] = []
    for part, split in splits.items():  # Pillow decodes several at once
        for image in read_ahead(partial(_read, root, part, split), range(len(split))):
            seen.append(image)
            on_progress(len(seen), total, "images")
    sizes = np.array([image.size for image in seen if not image.problem], np.int64)
    usual = np.median(sizes, axis=0).tolist() if len(sizes) else [0, 0]
    for image in seen:
        if image.problem:
            findings.append(Finding(DAMAGED, image.name, image.problem))
        # What most images are is no oddity, but stands among the facts.
        elif (why := _odd(image.size, data.image_size)) and not _odd(usual, data.image_size):
            findings.append(Finding(ODD, image.name, why))
    parts = None
    if source:
        findings += [*_twice(seen), *_unused(root, source)]
        parts = _divide(data, source, subsets, findings)
    order = (WRONG, DAMAGED, LEAK, ODD, UNUSED)
    findings.sort(key=lambda finding: (order.index(finding.kind), finding.what))
    return DataCheck(tuple(findings), sizes.reshape(-1, 2), parts)


def propose_subsets(present: NDArray[np.int64]) -> dict[str, int | str]:
    """Propose sizes of `small`, `medium` and `full` for images to train on.

    The first two are balanced: no class runs out before them.

    Args:
        present: (classes,) how many images of each class there are.

    >>> propose_subsets(np.array([130] * 9 + [125]))
    {'small': 129, 'medium': 431, 'full': 'all'}
    >>> propose_subsets(np.array([900, 9]))
    {'small': 6, 'medium': 18, 'full': 'all'}
    """
    images, classes = int(present.sum()), len(present)
    medium = max(classes, min(images // SHARES["medium"], classes * int(present.min())))
    small = max(classes, min(images // SHARES["small"], medium // 3))
    return {"small": small, "medium": medium, "full": "all"}


def _all_below(root: Path) -> Split:
    files = tuple(find_images(root))
    return Split(np.zeros(len(files), np.int64), lambda i: read_image(files[i]), files)


def _read(root: Path, part: str, split: Split, i: int) -> _Seen:
    name = str(split.files[i].relative_to(root)) if split.files else f"{part} image {i}"
    known = part, name, int(split.labels[i])
    try:
        pixels = split.read(i)
    except UserError as error:
        return _Seen(*known, problem=str(error).removeprefix(f"{root / name}: "))
    return _Seen(*known, pixels.shape[:2], pixel_digest(pixels))


def _odd(size: Sequence[float], side: int) -> str:
    """Say why an image of a height and width is odd; nothing where it is not."""
    (height, width), shorter, longer = size, min(size), max(size)
    found = []
    if shorter < side:
        found.append(f"{width}×{height} pixels are enlarged to {side}")
    if longer >= LONG * shorter:
        share = shorter / max(longer, 1)
        found.append(f"the centre square holds {share:.0%} of {width}×{height} pixels")
    return "; ".join(found)


def _twice(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Find images with the same pixels as one before them."""
    first: dict[bytes, _Seen] = {}
    for image in seen:
        before = image if image.problem else first.setdefault(image.digest, image)
        if before is image:
            continue
        why = f"the same pixels as {before.name}"
        if before.part != image.part:
            yield Finding(LEAK, image.name, f"{why}: a test image that is also trained on")
        elif before.label != image.label:
            yield Finding(ODD, image.name, f"{why}, of another class")
        else:
            yield Finding(ODD, image.name, why)


def _unused(root: Path, source: Source) -> Iterator[Finding]:
    """Name files that are not taken as images, and folders of images in no class."""
    for path in source.left_out:
        yield Finding(UNUSED, str(path.relative_to(root)), why_left_out(path))
    used = {*source.train.files, *source.test.files}
    if any(isinstance(file, Path) for file in used):
        others = Counter(path.parent for path in find_images(root) if path not in used)
        for folder, count in others.items():
            yield Finding(
                UNUSED, f"{folder.relative_to(root)}/", f"{counted(count, 'image')} of no class"
            )


def _divide(
    data: DataConfig,
    source: Source,
    subsets: Mapping[str, int | str],
    findings: list[Finding],
) -> Parts | None:
    """Hold out the validation images, and add to the findings which subsets do not fit the rest."""
    labels, tested, number = source.train.labels, source.test.labels, len(source.class_names)
    try:
        pool, held_out = stratified_split(labels, data.validation, data.seed, source.class_names)
    except UserError as error:
        findings.append(Finding(WRONG, "data.validation", str(error)))
        return None
    for name, size in subsets.items():
        try:
            subset_count(name, size, source, pool)
        except UserError as error:
            why = str(error).removeprefix(f"subset {name}: ")
            findings.append(Finding(WRONG, f"subsets.{name}", why))
    trained, held = (np.bincount(some, minlength=number).tolist() for some in (labels, tested))
    return Parts(
        classes=dict(zip(source.class_names, zip(trained, held, strict=True), strict=True)),
        drawn=source.drawn,
        train=len(pool),
        validation=len(held_out),
        test=len(tested),
        proposed=propose_subsets(np.bincount(labels[pool], minlength=number)),
    )
