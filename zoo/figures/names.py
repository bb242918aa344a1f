"""Names as file names."""

import hashlib

LONGEST_NAME = 200  # characters: a suffix, and what a temporary name adds, have room beside it


def file_name(name: str) -> str:
    """Return a figure's or a model's name as a file name that no file system or URL trips over.

    >>> file_name("cka-vit small/2__a")
    'cka-vit-small-2__a'
    """
    return short_name("".join(c if c.isalnum() or c in "-_." else "-" for c in name))


def short_name(name: str) -> str:
    """Return a name that a file system takes, which few do of more than 255 characters.

    A digest of the whole name tells apart what is cut.

    >>> len(short_name("a" * 300)), short_name("a" * 300) == short_name("a" * 301)
    (200, False)
    """
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}-{digest}"
