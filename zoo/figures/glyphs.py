"""Missing glyphs: what the figures' font lacks, such as Chinese in a class's name, in one line."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SHOWN = 8
LACKING = re.compile(r"Glyph (?P<code>\d+) .*missing from font", re.DOTALL)

logger = logging.getLogger(__name__)


@contextmanager
def noting_missing_glyphs() -> Iterator[dict[str, None]]:
    """Yield what collects the glyphs that figures lack; matplotlib warns at each place of each."""
    missing: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message="Glyph", category=UserWarning)
        show = warnings.showwarning

        def note(message: Warning | str, *rest: Any, **known: Any) -> None:
            if match := LACKING.match(str(message)):
                missing[chr(int(match["code"]))] = None
            else:
                show(message, *rest, **known)

        warnings.showwarning = note
        yield missing


def warn_of_missing_glyphs(missing: Iterable[str]) -> None:
    """Warn once, in one line."""
    glyphs = [
        glyph if glyph.isprintable() else ascii(glyph)[1:-1] for glyph in dict.fromkeys(missing)
    ]
    if glyphs:
        more = ", …" if len(glyphs) > SHOWN else ""
        logger.warning(
            "the figures' font lacks the glyphs %s, so they show boxes; report.html has them",
            ", ".join(glyphs[:SHOWN]) + more,
        )
