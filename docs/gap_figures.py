"""Draw the gap study's two pictures from the tables of `docs/gap.md`.

    python docs/gap_figures.py

`docs/figures.py` draws them from the results of a study; this needs no results. Numbers are as
rounded as in the tables.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from zoo.config import load_params
from zoo.experiments.gap_summary import Share, draw
from zoo.figures.style import DPI, styled

HOME = Path(__file__).parent.parent
# Of each picture, the headings below which its tables stand: the first table of each.
TABLES = {
    "gap": {500: "300 steps on 500 photographs"},
    "gap-long": {
        500: "1,500 steps on 500 photographs",
        1000: "1,500 steps on 1,000 photographs",
        5000: "1,500 steps on 5,000 photographs",
    },
}
ACCURACY, SHARE = ("test accuracy", "mean (95 % interval)"), "share of the gap closed"
NUMBER = re.compile(r"[−-]?\d[\d,]*\.?\d*")


def read_shares(page: str, headings: dict[int, str]) -> list[Share]:
    """Return a row for each model of the tables below some headings of a page."""
    return [
        _share(row, images)
        for images, heading in headings.items()
        for row in _first_table(page.split(f"\n## {heading}\n")[1])
    ]


def _first_table(text: str) -> list[dict[str, str]]:
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    if lines is None:
        raise ValueError(f"expected a table, got {text[:80]!r}")
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def _share(row: dict[str, str], images: int) -> Share:
    accuracy = next(row[name] for name in ACCURACY if name in row)
    seeds = sum(name.startswith("seed ") for name in row)
    return Share(
        row["model"],
        images,
        seeds or 3,  # where a table has the mean alone, it says that there are three
        *_numbers(accuracy),
        *_numbers(row[SHARE]),
        reference="",
        gap=math.nan,
        learning_rate=math.nan,
        steps=0,
        parameters=0,
    )


def _numbers(cell: str) -> list[float]:
    """Return a value in per cent and the ends of its interval as shares; NaN without one."""
    found = [float(n.replace("−", "-").replace(",", "")) / 100 for n in NUMBER.findall(cell)]
    return found if len(found) == 3 else [found[0], math.nan, math.nan]


if __name__ == "__main__":
    page = (HOME / "docs" / "gap.md").read_text()
    for picture, headings in TABLES.items():
        gap = load_params(HOME / "studies" / f"{picture}.yaml").gap
        figure = draw(read_shares(page, headings), gap)
        with styled():
            figure.savefig(HOME / "docs" / "images" / f"{picture}.png", dpi=DPI)
