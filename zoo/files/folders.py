"""Folders that appear complete or not at all, and only in the place of what zoo wrote itself."""

from __future__ import annotations

import errno
import glob
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from zoo.errors import UserError
from zoo.files import hold, is_abandoned, naming, resolve_dots

ASIDE = "replaced"
HALF_COPY = f".{'[A-Za-z0-9_-]' * 22}.tmp"  # by a DVC that was killed over its output
# The others by macOS and Windows, where a folder was looked at.
LEFT_BY_OTHERS = (".DS_Store", "Thumbs.db", HALF_COPY)
ATTEMPTS = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderKind:
    """What zoo writes into a kind of folder: a folder of this and nothing else is its own.

    Attributes:
        mark: a JSON file that every folder of the kind holds. None where the place is proof
            enough: inside another folder of zoo's, such as a report's `figures` or the cache.
        keys: what the mark holds at its top level, since others write a `report.json` too.
        files: names of the other files, as patterns.
        folders: kinds of the folders in it, by patterns of their names.
    """

    mark: str = ""
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: Mapping[str, FolderKind] = field(default_factory=dict)


@contextmanager
def replacing_folder(path: Path, kind: FolderKind) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` at the end; on an error `path` stays as it was.

    What stands at `path` is replaced only where it is empty or zoo's own (`check_replaceable`),
    which is judged again after it was renamed aside: by then nobody else reaches it by name. If
    somebody put another folder there meanwhile, it is put back. Nothing but a folder is ever
    moved, and a link is neither followed nor replaced.

    A folder cannot be renamed over another, so there is a moment without `path`; the next call
    with the same `path` puts back what a process killed just then left aside, and removes what
    one killed before had written so far. Of several processes that replace one `path` at once,
    the last one's folder stays, whole.

    Raises:
        UserError: `path` may not be replaced.
    """
    path = resolve_dots(path)
    check_replaceable(path, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkdtemp adds eight characters; a star would also find what stands beside `name.old.x`.
    for old in path.parent.glob(f".{glob.escape(path.name)}.old.{'?' * 8}/{ASIDE}"):
        _put_back(old, path, kind)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}"):
        clear(left, kind)
    with _temporary_folder(path, f".{path.name}.") as temporary:
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb") as opened:
                        os.fsync(opened.fileno())
            if not any(_publish(temporary, path, kind) for _ in range(ATTEMPTS)):
                raise UserError(
                    f"{path} is being replaced by other processes: wait for them to end"
                )
            logger.info("wrote %s", path)
        except OSError as error:
            if error.filename:
                error.filename = str(error.filename).replace(str(temporary), str(path), 1)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _temporary_folder(path: Path, prefix: str) -> Iterator[Path]:
    """Make a folder beside `path` that is held by this process; it stays at the end."""
    with naming(path):
        made = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
        descriptor = os.open(made, os.O_RDONLY)
    try:
        hold(descriptor)
        yield made
    finally:
        os.close(descriptor)


def check_replaceable(path: Path, kind: FolderKind) -> None:
    """Raise `UserError` unless a folder may be written: absent, empty, or zoo's own.

    A name alone proves nothing. All that lies in the folder has to be what zoo writes into this
    kind of folder, down to the last file, since all of it would be gone.
    """
    path = resolve_dots(path)
    above = path.absolute().parent
    lowest = next(folder for folder in (above, *above.parents) if os.path.lexists(folder))
    if not (os.path.isdir(lowest) and os.access(lowest, os.W_OK | os.X_OK)):
        raise UserError(
            f"{path} cannot be written: {lowest} is not a folder you may write to; name another"
        )
    if os.path.lexists(path):
        _check_own(path, kind, path)


def remove_folder(folder: Path, kind: FolderKind) -> None:
    """Remove a folder that zoo wrote; what zoo did not write is kept, and logged."""
    try:
        for path in _removal(folder, kind):
            with suppress(FileNotFoundError):  # another process removes it as well
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
    except FileNotFoundError:
        pass
    except (UserError, OSError) as error:
        logger.warning("%s is kept: %s", folder, error)


def clear(left: Path, *kinds: FolderKind) -> bool:
    """Put back or remove what a killed process left of a folder of one of these kinds.

    Returns:
        Whether it is gone; what zoo did not write, or a process is at work in, is kept.
    """
    if is_abandoned(left):
        name, is_aside, _ = left.name.rpartition(".old.")
        if is_aside:
            old = left / ASIDE
            _put_back(old, left.with_name(name.removeprefix(".")), _kind_of(old, kinds))
        else:
            remove_folder(left, _kind_of(left, map(_begun, kinds)))
    return not os.path.lexists(left)


def _kind_of(folder: Path, kinds: Iterable[FolderKind]) -> FolderKind:
    """Return the first kind that a folder is of, or else one of which only empty folders are."""
    for kind in kinds:
        with suppress(UserError, OSError):
            _removal(folder, kind)
            return kind
    return FolderKind()


def _begun(kind: FolderKind) -> FolderKind:
    """Return what a folder of a kind may hold before it is complete: no mark, half a file."""
    names = [name for name in (kind.mark, *kind.files) if name]
    begun = {name: _begun(inner) for name, inner in kind.folders.items()}
    return FolderKind(files=(*names, *(f".{name}.*" for name in names)), folders=begun)


def _check_own(folder: Path, kind: FolderKind, called: Path) -> None:
    try:
        _removal(folder, kind)
    except UserError as why:
        raise UserError(
            f"refusing to overwrite {called}, which zoo did not write: {why}; name another folder"
        ) from None


def _removal(folder: Path, kind: FolderKind) -> list[str]:
    """Return what a folder of zoo's holds and itself, in the order in which to remove it.

    A file that appears after the folder was judged is not among it, and keeps its folder. The mark
    goes last, so that what a killed process left of a folder is still known as zoo's.

    Raises:
        UserError: it is not zoo's; the message says why.
    """
    if folder.is_symlink():
        raise UserError(f"it is a link to {folder.readlink()}")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError("it is not a folder")
    if os.path.ismount(folder):
        raise UserError("it is a mount point")
    return _judge(folder, kind, folder)


def _judge(folder: Path, kind: FolderKind, top: Path) -> list[str]:
    with os.scandir(folder) as held:
        entries = sorted(held, key=lambda entry: (entry.name == kind.mark, entry.name))
    names = (kind.mark, *kind.files, *LEFT_BY_OTHERS)
    folders = {entry.name: inner for entry in entries if (inner := _inner_kind(entry, kind))}
    foreign = [
        os.path.relpath(entry.path, top)
        for entry in entries
        if entry.name not in folders
        and not (entry.is_file(follow_symlinks=False) and _matches(entry.name, names))
    ]
    if foreign:
        raise UserError(f"it contains {', '.join(foreign[:3])}{', …' if len(foreign) > 3 else ''}")
    # What others leave is all that DVC, killed while it brings outputs back, may leave of a folder.
    empty = all(_matches(entry.name, LEFT_BY_OTHERS) for entry in entries)
    if not (empty or _is_marked(folder, kind)):
        mark = os.path.relpath(folder / kind.mark, top)
        raise UserError(f"{mark} is missing, damaged or written by another program")
    found: list[str] = []
    for entry in entries:
        inner = folders.get(entry.name)
        found += _judge(Path(entry.path), inner, top) if inner else [entry.path]
    return [*found, str(folder)]


def _inner_kind(entry: os.DirEntry[str], kind: FolderKind) -> FolderKind | None:
    if not entry.is_dir(follow_symlinks=False) or os.path.ismount(entry.path):
        return None
    return next((k for name, k in kind.folders.items() if fnmatchcase(entry.name, name)), None)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_marked(folder: Path, kind: FolderKind) -> bool:
    if not kind.mark:
        return True
    try:
        content = json.loads((folder / kind.mark).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= set(kind.keys)


def _publish(new: Path, path: Path, kind: FolderKind) -> bool:
    """Rename a folder to `path`; false where another process got in between: try again."""
    if not os.path.isdir(new):  # no try would bring it back
        raise FileNotFoundError(errno.ENOENT, "it was removed while it was written", str(path))
    check_replaceable(path, kind)
    with _temporary_folder(path, f".{path.name}.old.") as aside:
        old = aside / ASIDE
        try:
            with _unless_taken():
                if os.path.lexists(path):
                    with naming(path):
                        os.rename(f"{path}/", old)  # the slash makes it fail on all but a folder
                    _check_own(old, kind, path)
                os.rename(new, path)
                return True
            return False
        finally:
            _put_back(old, path, kind)


def _put_back(old: Path, path: Path, kind: FolderKind) -> None:
    """Put back what was set aside; where `path` is there again, remove it if it is zoo's own."""
    if not os.path.lexists(path):
        with _unless_taken():
            os.rename(f"{old}/", path)
    if os.path.lexists(old):
        remove_folder(old, kind)
    with suppress(OSError):  # not empty: the folder was kept
        old.parent.rmdir()


@contextmanager
def _unless_taken() -> Iterator[None]:
    """Continue where another process removed what was to be renamed, or was there first."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
