"""Signs that the figures' font lacks, such as Chinese ones in a class's name, told in one line."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SHOWN = 8
LACKING = re.compile(r"Glyph (?P<code>\d+) .*missing from font", re.DOTALL)

logger = logging.getLogger(__name__)


@contextmanager
def missing_signs_told() -> Iterator[None]:
    """Tell once which signs figures lack, where matplotlib warns at each place of each."""
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
        yield
    if missing:
        signs = [sign if sign.isprintable() else ascii(sign)[1:-1] for sign in missing]
        more = ", …" if len(signs) > SHOWN else ""
        logger.warning(
            "the figures' font has no sign for %s: boxes stand for them; report.html has them",
            ", ".join(signs[:SHOWN]) + more,
        )
