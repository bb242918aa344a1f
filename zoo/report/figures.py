"""A comparison's figures: drawn and saved, with their names and captions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
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
DRAWN = "analyses drawn"  # what is counted


def draw(results: ComparisonResults, analysis: str) -> dict[str, Drawing]:
    """Return the figures of an analysis by name."""
    drawn = load_analysis(analysis).draw(
        results.results[analysis], [network.name for network in results.compared]
    )
    return dict(zip(figure_names(drawn), drawn, strict=True))


def draw_all(
    results: ComparisonResults, folder: Path, on_progress: OnProgress = no_progress
) -> dict[str, list[Entry]]:
    """Draw and save the figures of all analyses; return what the report says of them.

    Args:
        results: of a comparison.
        folder: receives the files.
        on_progress: is called for every analysis drawn.
    """
    from zoo.figures.saving import saving

    drawn: dict[str, list[Entry]] = {}
    # Drawing makes the garbage collector run often; to look through torch and the models again and
    # again took a fifth of a report's time.
    gc.freeze()
    try:
        with saving(folder) as save:
            for analysis in results.results:
                on_progress(len(drawn), len(results.results), DRAWN)
                drawn[analysis] = _draw_one(results, analysis, save)
    finally:
        gc.unfreeze()
    on_progress(len(drawn), len(drawn), DRAWN)
    return drawn


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
