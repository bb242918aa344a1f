"""Atomic writes and content digests: a killed process leaves the old state or the new one."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zoo.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What `tempfile` makes of a name that is to appear, complete, beside it.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")
FORMULA = re.compile(r"[=@\t\r]|[+-].*[(|!]")  # what a spreadsheet runs; `+stem` is a name
HELD_SECONDS = 5  # between its making and its being held there are less
FIX = "fetch it again, or run again what wrote it"


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content` atomically (temporary file, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                hold(descriptor)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary, 0o644)  # mkstemp makes files private; outputs are for everyone
                os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def hold(descriptor: int) -> None:
    """Mark an open temporary file or folder as in use, until it is closed or the process ends."""
    if fcntl:
        with suppress(OSError):  # a file system without locks: it is never called abandoned
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_abandoned(path: Path) -> bool:
    """Say whether a temporary file or folder was left by a process that has ended."""
    if not (fcntl and TEMPORARY.fullmatch(path.name)) or path.is_symlink():
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ctime < time.time() - HELD_SECONDS
    except OSError:  # held by another process, or a file system without locks
        return False
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors name the file that was to be written, not the temporary one beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by indented JSON atomically; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Read a text file in UTF-8; from a pipe or a device, which might never end, a `UserError`."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a file, got a folder, a pipe or a device")
    return path.read_text(encoding="utf-8")


def read_json(path: Path, *, fix: str = FIX) -> Any:
    """Read a JSON file; a missing or damaged one is a `UserError` that says how to fix it.

    NaN and infinity, which JSON has not and zoo never writes, are damage.
    """
    try:
        return json.loads(read_text(path), parse_constant=_refuse)
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8; too deep, too many digits
        raise UserError(f"{path} is damaged: expected JSON, got {error}; {fix}") from None


def finite(value: float) -> float | None:
    """Return a number as JSON holds it: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def json_digest(value: Any) -> str:
    """Return the hex digest of JSON values, in whatever order their keys are."""
    text = json.dumps(value, sort_keys=True, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV with the first one's columns; NaN becomes an empty cell.

    >>> csv_text([{"n": 1, "share": 0.25}, {"n": 2, "share": math.nan}])
    'n,share\\n1,0.25\\n2,\\n'
    >>> csv_text([{"layer": "=1+1"}, {"layer": "blocks.0"}])  # a spreadsheet would run it
    "layer\\n'=1+1\\nblocks.0\\n"
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
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"
    if not isinstance(value, float):
        return value
    return significant(value) if math.isfinite(value) else ""


def user_path(text: str | os.PathLike[str], base: Path = Path()) -> Path:
    """Return the path that a person means: `~` is a home, and `..` is followed now.

    Args:
        text: what was given on the command line, in params.yaml or to a function of zoo's.
        base: the folder that a relative path starts from.

    Raises:
        UserError: a home of nobody known here, or a character that no path has.
    """
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        name = Path(expanded).parts[0]
        raise UserError(f"{text}: no home folder is known for {name}; write ./{name} for a name")
    if "\0" in expanded:
        raise UserError(f"{expanded!r}: expected a path, got one with a null character")
    return resolve_dots(base / expanded)


def resolve_dots(path: Path) -> Path:
    """Follow a path's `..`, so that it means the same before and after missing parents are made.

    While `absent` is not there, `absent/../x` cannot be looked at; once it was made, it is `x`.
    Links after the last `..` are left as they are.
    """
    parts = path.parts
    fixed = max((i for i, part in enumerate(parts, 1) if part == ".."), default=0)
    if not path.name:  # `.` is no name that a folder beside it could be renamed to
        fixed = len(parts)
    elif not fixed:
        return path
    return Path(os.path.realpath(Path(*parts[:fixed])), *parts[fixed:])


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
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def code_digest(names: Sequence[str]) -> str:
    """Return the digest of a part of zoo's own code, which identities of results contain.

    Args:
        names: files and folders of the package, from its root.
    """
    digest, root = hashlib.sha256(), Path(__file__).parent.parent
    for name in names:
        path = root / name
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if file.suffix != ".pyc":
                digest.update(str(file.relative_to(root)).encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()
