"""The one error that a user can cause, and how a program ends on it."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import reprlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

BAD_INPUT = 2
INTERRUPTED = 130
CONTINUE = "interrupted; run the same command again to continue"
LESS_MEMORY = "free some, or take fewer images at once (--batch-size, train.batch_size)"
# As torch, CUDA and the loader of shared libraries say it.
OUT_OF_MEMORY = re.compile(
    "(?:can't|cannot) allocate memory|out of memory|alloc_failed|failed to map", re.IGNORECASE
)
LONGEST, LONGEST_PART = 330, 120  # characters of an error of a library's, and of its lines
LONGEST_LINE, LONGEST_VALUE = 900, 300  # characters of an error, and of what it quotes
# What moves a terminal's cursor, colours it or reverses a line's direction, and what is no XML:
# control characters other than tab and newline, bidirectional marks, lone surrogates.
CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80

logger = logging.getLogger(__name__)


class UserError(ValueError):
    """Bad input: the message says what was expected, what came and what to do, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(shorten_message(message))


class NotTrustedError(UserError):
    """Code would have to run that the user has not trusted; the message says how to trust it."""


def printable(text: str) -> str:
    """Write control characters as Python does, so that they change no terminal and no SVG.

    >>> printable("a\\x1b[31m\\tb\\n")
    'a\\\\x1b[31m\\tb\\n'
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def shorten_message(message: str) -> str:
    """Cut the middle out of long values in a message, then out of what is too long as a whole.

    >>> len(shorten_message(f"expected a number, got {'9' * 5000}: give one from 1 to 10"))
    344
    """
    words = re.sub(rf"\S{{{LONGEST_VALUE},}}", lambda word: _cut(word[0], LONGEST_VALUE), message)
    return _cut(words, LONGEST_LINE)


def _cut(text: str, most: int) -> str:
    """Leave out the middle, where the beginning and the end say what it is and what to do."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def shown(value: object) -> str:
    """Return a value as an error shows it: a long one without its middle.

    >>> shown("vit"), shown([0] * 9)
    ("'vit'", '[0, 0, 0, 0, 0, 0, ...]')
    """
    return _brief.repr(value)


def unknown(kind: str, name: object, valid: Iterable[str], *, others: int = 0) -> UserError:
    """Return the error for a name that is not in a table, naming the nearest and the valid ones.

    `others` is how many valid ones are not named.

    >>> str(unknown("source", "cifar", ["cifar10", "digits"]))
    "unknown source 'cifar'; did you mean 'cifar10'? valid: cifar10, digits"
    """
    names = sorted(valid)
    return UserError(
        f"unknown {kind} {shown(name)};{suggestion(name, names)} "
        f"valid: {', '.join(names) or 'none'}"
        + (f" and {counted(others, 'other')}" if others else "")
    )


def suggestion(name: object, valid: Iterable[str]) -> str:
    """Ask whether what begins with a name was meant, or else the nearest; empty if nothing is near.

    >>> suggestion("acc", ["accuracy", "arch"])
    " did you mean 'accuracy'?"
    """
    by_lower = {known.lower(): known for known in sorted(valid)}
    given = str(name).lower()
    longer = [known for lower, known in by_lower.items() if given and lower.startswith(given)]
    near = longer[:3] or [
        by_lower[lower] for lower in difflib.get_close_matches(given, by_lower, n=1)
    ]
    return f" did you mean {' or '.join(map(repr, near))}?" if near else ""


def brief(error: Exception) -> str:
    """Return what a library raised in one line: some list every layer of a network."""
    lines = filter(None, (" ".join(line.split()) for line in str(error).splitlines()))
    # Torch has a line of the keys that a file lacks, and one of those that it has instead.
    text = " ".join(x if len(x) <= LONGEST_PART else f"{x[:LONGEST_PART]}…" for x in lines)
    kind, end = type(error).__name__, "…" if len(text) > LONGEST else ""
    return f"{kind}: {text[:LONGEST]}{end}" if text else kind  # timm asserts without a word


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    >>> counted(1, "test split"), counted(1200, "test split"), counted(0, "class", "classes")
    ('1 test split', '1,200 test splits', '0 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str]) -> str:
    """Return one or more names as a sentence has them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on stderr and exit status 2 where the user can fix it.

    Bad input (`UserError`), files that cannot be read or written, and a full disk are the
    user's to fix, and so is memory that does not suffice, of the machine or of a GPU; any other
    exception is a defect of zoo and keeps its traceback. Ctrl-C ends with status 130.
    """
    try:
        yield
    except UserError as error:
        logger.info("where the error arose:", exc_info=True)  # with --verbose
        _end(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        _end(CONTINUE, INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`zoo list | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        logger.info("where the error arose:", exc_info=True)
        _end(_describe(error), BAD_INPUT)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        logger.info("where the error arose:", exc_info=True)
        why = f" ({brief(error)})" if str(error) else ""  # Python's own says nothing
        _end(f"not enough memory{why}: {LESS_MEMORY}", BAD_INPUT)


def tell_interrupts() -> None:
    """Make Ctrl-C end in one line also before `one_line_errors` is entered, as in imports."""
    shown_before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(f"Error: {CONTINUE}", file=sys.stderr)
        else:
            shown_before(kind, error, trace)

    sys.excepthook = show


def _describe(error: OSError) -> str:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        # Of a copied folder: what became of each file, with the reason as text.
        _, target, why = error.args[0][0]
        full = f"[Errno {errno.ENOSPC}]" in why
        error = OSError(errno.ENOSPC, "", target) if full else OSError(why)
    # Of two files, the second one was to be written.
    name = error.filename2 or error.filename
    where = f" ({name})" if name else ""
    if error.errno == errno.ENOSPC:
        return f"disk full{where}: free some space and run the same command again"
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return f"a file is where a folder is needed{where}: move it away"
    return f"{error.strerror or error}{where}"


def _end(message: str, status: int) -> None:
    line = printable(" ".join(message.split()))
    print(f"Error: {shorten_message(line)}", file=sys.stderr)
    raise SystemExit(status)
