"""The files of the gap study: shares of the gap and how the networks see, as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from zoo.config import GapConfig, Params
from zoo.data.sources import Source
from zoo.data.subsets import load_subset
from zoo.experiments import gap_representation, gap_summary
from zoo.experiments.gap import Run, draw_folder, with_test_images
from zoo.figures.saving import save_figure
from zoo.files import csv_text, write_text


def write_shares(runs: Sequence[Run], gap: GapConfig, to: Path) -> None:
    """Write what is known so far; nothing until the ViT and a CNN have a seed in common."""
    rows = gap_summary.summarise(runs, gap)
    if not rows:
        return
    write_text(to / "gap.csv", csv_text([asdict(row) for row in rows]))
    write_text(to / "gap.md", gap_summary.as_markdown(rows, gap))
    save_figure(gap_summary.draw(rows, gap), to, "gap")


def write_representation(
    runs: Sequence[Run], params: Params, gap: GapConfig, source: Source, folder: Path, to: Path
) -> None:
    """Compare the trained networks; write how each sees, and one figure per number of images.

    Nothing is written where no seed has both ends of the gap, or there is only one seed.
    """
    reference = {row.images: row.reference for row in gap_summary.summarise(runs, gap)}
    drawn = draw_folder(params, len(with_test_images(source, gap).test), folder, runs[0].seed)
    images = np.asarray(load_subset(drawn / "test").images[: gap_representation.IMAGES])
    seen = gap_representation.look(runs, reference, images, folder, baseline=gap.baseline)
    rows = gap_representation.summarise_seen(list(seen))
    if not rows:
        return
    write_text(to / "representation.csv", csv_text([asdict(row) for row in rows]))
    write_text(to / "representation.md", gap_representation.as_markdown(rows, len(images)))
    for count in sorted({row.images for row in rows}):
        figure = gap_representation.draw(
            rows,
            images=count,
            baseline=gap.baseline,
            cnn=reference[count],
            title=f"{count:,} training images, {len(images)} test images",
        )
        save_figure(figure, to, f"representation-{count}")
