"""Atomic writes and content digests: a killed process leaves the old state or the new one."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import io
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import UserError

CHUNK_BYTES = 1 << 20
ASIDE = "replaced"
LEFT_BY_VIEWERS = (".DS_Store", "Thumbs.db")  # by macOS and Windows, where a folder was looked at
ATTEMPTS = 1000
MEND = "fetch it again, or run again what wrote it"

logger = logging.getLogger(__name__)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically (temporary file, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp makes files private; outputs are for everyone
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors name the file that was to be written, not the temporary one beside it."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON atomically; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *, mend: str = MEND) -> Any:
    """Read a JSON file; a missing or damaged one is a `UserError` that says how to mend it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: expected JSON, got {error}; {mend}") from None


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV with the first one's columns; NaN becomes an empty cell.

    >>> csv_text([{"n": 1, "share": 0.25}, {"n": 2, "share": math.nan}])
    'n,share\\n1,0.25\\n2,\\n'
    >>> csv_text([{"learning_rate": 3e-7, "seconds": 1 / 3}])  # six significant digits
    'learning_rate,seconds\\n3e-07,0.333333\\n'
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def significant(value: float) -> float:
    """Round to the six significant digits that a table keeps.

    >>> significant(3.00000049e-07)
    3e-07
    """
    return float(f"{value:.6g}")


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return significant(value) if math.isfinite(value) else ""


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` at the end; on an error `path` stays as it was.

    A folder cannot be renamed over another, so the old one is first renamed aside. A process
    killed just then leaves no `path`; the next call with the same `path` puts the old one back.
    Of several processes that replace one `path` at once, the last one's folder stays, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _restore(path)
    with _naming(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if not any(_publish(temporary, path) for _ in range(ATTEMPTS)):
            raise UserError(f"{path} is being replaced by other processes: wait for them to end")
        logger.info("wrote %s", path)
    except OSError as error:
        if error.filename:
            error.filename = str(error.filename).replace(str(temporary), str(path), 1)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(folder: Path, mark: str, beside: Collection[str]) -> None:
    """Raise `UserError` unless `folder` may be written: absent, empty, or zoo's own.

    A file's name alone proves nothing: others write a `report.json` too. All that lies in the
    folder has to be what zoo writes there, since all of it would be gone.

    Args:
        folder: where something is to be written.
        mark: the file by which zoo knows a folder that it wrote.
        beside: what else zoo writes there.
    """
    _check_writable(folder)
    if not os.path.lexists(folder):
        return
    names = (mark, *beside)
    there = sorted(os.listdir(folder)) if folder.is_dir() else []
    foreign = [name for name in there if name not in (*names, *LEFT_BY_VIEWERS)]
    if folder.is_dir() and not foreign and (not there or (folder / mark).is_file()):
        return
    if not folder.is_dir():
        why = "it is no folder"
    elif foreign:
        why = f"it holds {', '.join(foreign[:3])}{', …' if len(foreign) > 3 else ''}"
    else:
        why = f"it has no {mark}"
    raise UserError(
        f"{folder} would be replaced, but zoo did not write it: expected no such folder, an "
        f"empty one or one of {', '.join(names)} and nothing else, but {why}; name another"
    )


def _check_writable(folder: Path) -> None:
    """Raise `UserError` where a folder cannot be made, before work is done that it should hold."""
    above = folder.absolute().parent
    lowest = next(path for path in (above, *above.parents) if os.path.lexists(path))
    if not (os.path.isdir(lowest) and os.access(lowest, os.W_OK | os.X_OK)):
        raise UserError(
            f"{folder} cannot be written: {lowest} is no folder that you may write to; name another"
        )


def _publish(new: Path, path: Path) -> bool:
    """Rename a folder to `path`; false where another process got in between: try again."""
    if not os.path.lexists(path):
        with _unless_taken():
            os.replace(new, path)
            return True
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        with _unless_taken():
            os.replace(path, aside / ASIDE)
            os.replace(new, path)
            return True
        return False
    finally:
        _put_back(aside / ASIDE, path)


def _restore(path: Path) -> None:
    """Put back, or remove where it is not missed, what a killed process left aside."""
    # mkdtemp adds eight characters; a star would also find what stands beside `name.old.x`.
    for old in path.parent.glob(f".{glob.escape(path.name)}.old.{'?' * 8}/{ASIDE}"):
        _put_back(old, path)


def _put_back(old: Path, path: Path) -> None:
    if not os.path.lexists(path):
        with _unless_taken():
            os.replace(old, path)
    shutil.rmtree(old.parent, ignore_errors=True)


@contextmanager
def _unless_taken() -> Iterator[None]:
    """Go on where another process took away what was to be renamed, or was there first."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise


def find_root() -> Path:
    """Return the project's root: the nearest folder with params.yaml and dvc.yaml, else this one.

    DVC runs experiments in a copy of the project and names the real one in `DVC_ROOT`.
    """
    here = Path.cwd()
    if real := os.environ.get("DVC_ROOT"):
        return Path(real)
    return next((folder for folder in (here, *here.parents) if is_project(folder)), here)


def is_project(folder: Path) -> bool:
    """Say whether a folder is the root of a project."""
    return (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file()


def sha256(*paths: Path) -> str:
    """Return the hex digest over the bytes of several files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
