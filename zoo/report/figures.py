"""A comparison's figures: drawn and saved, with their names and captions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.analyses import load_analysis
from zoo.figures.names import file_name
from zoo.progress import OnProgress, no_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.analyses.about import Drawing
    from zoo.study.results import ComparisonResults

Entry = dict[str, Any]
Drawn = tuple[list[Entry], list[str]]  # and the glyphs that the font lacks
DRAWN = "analyses drawn"  # what is counted


def draw(results: ComparisonResults, analysis: str) -> dict[str, Drawing]:
    """Return the figures of an analysis by name."""
    drawn = load_analysis(analysis).draw(
        results.results[analysis], [network.name for network in results.compared]
    )
    return dict(zip(figure_names(drawn), drawn, strict=True))


def draw_all(
    results: ComparisonResults,
    folder: Path,
    on_progress: OnProgress = no_progress,
    *,
    beside: Callable[[], None] = lambda: None,
) -> dict[str, list[Entry]]:
    """Draw and save the figures of all analyses; return what the report says of them.

    Args:
        results: of a comparison.
        folder: receives the files.
        on_progress: is called for every analysis drawn.
        beside: other work, done at the same time where there is a second core.
    """
    from zoo.figures.glyphs import noting_missing_glyphs, warn_of_missing_glyphs
    from zoo.figures.saving import saving
    from zoo.figures.sharing import share

    analyses = list(results.results)
    count = len(analyses)

    def on_task(task: int) -> None:
        on_progress(max(0, task - 1), count, DRAWN)

    def work(taken: Iterator[int]) -> dict[int, Drawn]:
        """Do task 0, what is beside and may take longest, and analysis by analysis from 1."""
        done: dict[int, Drawn] = {}
        with saving(folder) as save:
            for task in taken:
                with noting_missing_glyphs() as missing:
                    entries: list[Entry] = []
                    if task:
                        entries = _draw_one(results, analyses[task - 1], save)
                    else:
                        beside()
                done[task] = entries, [*missing]
        return done

    # Drawing makes the garbage collector run often; to look through torch and the models again and
    # again took a fifth of a report's time.
    gc.freeze()
    try:
        done = share(work, 1 + count, on_task)
    finally:
        gc.unfreeze()
    on_progress(count, count, DRAWN)
    warn_of_missing_glyphs(glyph for _, missing in done.values() for glyph in missing)
    return {name: done[task][0] for task, name in enumerate(analyses, start=1)}


def _draw_one(
    results: ComparisonResults, analysis: str, save: Callable[[Figure, str], object]
) -> list[Entry]:
    entries = []
    for name, drawing in draw(results, analysis).items():
        save(drawing.figure, name)
        said = caption(results, analysis, drawing)
        entries.append(
            {"file": name, "kind": drawing.kind, "of": list(drawing.of), "caption": said}
        )
    return entries


def caption(results: ComparisonResults, analysis: str, drawing: Drawing) -> str:
    """Return what a figure shows, and of which seed it is where a model has several."""
    text: str = load_analysis(analysis).ABOUT.captions[drawing.kind]
    text = text.format(" and ".join(drawing.of))
    several = [one for one in results.compared if len(results.seeds(one)) > 1]
    if drawing.over_seeds or not several:
        return text
    shown = {one.seed for one in several}
    return f"{text} Seed {shown.pop()} of each." if len(shown) == 1 else f"{text} One seed of each."


def figure_names(drawn: Sequence[Drawing]) -> list[str]:
    """Return a file name for each drawing, all different, whatever the networks are called."""
    names: list[str] = []
    for drawing in drawn:
        name = file_name(drawing.kind.format("__".join(drawing.of)))
        while name in names:
            name += "-"
        names.append(name)
    return names
