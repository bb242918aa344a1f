"""A figure becomes two files, png and svg: the same bytes each time."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from matplotlib.figure import Figure

from zoo.errors import printable
from zoo.figures.style import DPI, styled

MOST_GLYPHS = 8  # that a warning names
LACKING = re.compile(r"Glyph (\d+) .*missing from font", re.DOTALL)

logger = logging.getLogger(__name__)


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Save a figure as png (150 dots an inch) and svg, without dates; return both paths."""
    with saving(folder) as save:
        return save(figure, name)


@contextmanager
def saving(folder: Path) -> Iterator[Callable[[Figure, str], tuple[Path, Path]]]:
    """Yield what `save_figure` does for one figure, for many: one warning is of all of them."""
    folder.mkdir(parents=True, exist_ok=True)

    def save(figure: Figure, name: str) -> tuple[Path, Path]:
        png, svg = folder / f"{name}.png", folder / f"{name}.svg"
        with styled():
            figure.dpi = DPI
            engine = figure.get_layout_engine()
            if engine is not None:
                # Once for both files; `savefig` would lay out and draw twice for each of them.
                engine.execute(figure)
                figure.set_layout_engine(None)
            figure.savefig(png, dpi=DPI, pil_kwargs={"compress_level": 2})
            drawing = StringIO()
            figure.savefig(drawing, format="svg", dpi=DPI, metadata={"Date": None})
            # A name may hold what is no XML.
            svg.write_text(printable(drawing.getvalue()), encoding="utf-8")
        return png, svg

    with _missing_glyphs_in_one_line():
        yield save


@contextmanager
def _missing_glyphs_in_one_line() -> Iterator[None]:
    """Warn once of all that the font lacks, such as Chinese; matplotlib does at each place."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph", category=UserWarning)
        yield
    glyphs: dict[str, None] = {}
    for warned in caught:
        if match := LACKING.match(str(warned.message)):
            glyphs[repr(chr(int(match[1])))[1:-1]] = None
        else:
            warnings.warn_explicit(warned.message, warned.category, warned.filename, warned.lineno)
    if glyphs:
        logger.warning(
            "the figures' font lacks the glyphs %s, so they show boxes; report.html has them",
            ", ".join([*glyphs][:MOST_GLYPHS]) + ", …" * (len(glyphs) > MOST_GLYPHS),
        )
