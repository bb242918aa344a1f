"""A figure becomes two files, png and svg: the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from zoo.errors import printable
from zoo.figures.glyphs import noting_missing_glyphs, warn_of_missing_glyphs
from zoo.figures.style import DPI, styled


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Save a figure as png (150 dots an inch) and svg, without dates; return both paths."""
    with saving(folder) as save:
        return save(figure, name)


@contextmanager
def saving(folder: Path) -> Iterator[Callable[[Figure, str], tuple[Path, Path]]]:
    """Yield what `save_figure` does for one figure, for many: all are there at the end.

    Compressing a png needs no Python, so that it goes on beside the drawing of the next figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(1) as beside, noting_missing_glyphs() as missing:

        def save(figure: Figure, name: str) -> tuple[Path, Path]:
            png, svg = folder / f"{name}.png", folder / f"{name}.svg"
            with styled():
                figure.dpi = DPI
                engine = figure.get_layout_engine()
                if engine is not None:
                    # Once for both files; `savefig` would lay out and draw twice for each of them.
                    engine.execute(figure)
                    figure.set_layout_engine(None)
                for axis in _axis_names(figure):
                    if not axis.label.get_text():
                        axis.set_label_coords(0, 0)
                canvas = FigureCanvasAgg(figure)
                canvas.draw()
                drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
                waiting.append(beside.submit(drawn.save, png, compress_level=2, dpi=(DPI, DPI)))
                _fix_axis_labels(figure)
                drawing = StringIO()
                FigureCanvasSVG(figure).print_svg(drawing, metadata={"Date": None})
                # A name may hold what is no XML.
                svg.write_text(printable(drawing.getvalue()), encoding="utf-8")
            return png, svg

        yield save
        for file in waiting:
            file.result()
    warn_of_missing_glyphs(missing)


def _axis_names(figure: Figure) -> Iterator[Axis]:
    for axes in figure.axes:
        yield axes.xaxis
        yield axes.yaxis


def _fix_axis_labels(figure: Figure) -> None:
    """Leave the axes' names where a first drawing has put them: finding the place takes long."""
    for axis in _axis_names(figure):
        dots = axis.label.get_transform().transform(axis.label.get_position())
        axis.set_label_coords(*axis.axes.transAxes.inverted().transform(dots))
