"""The comparison's page: one HTML file that needs nothing but itself.

It reads what a comparison has saved and computes nothing. The template escapes all text, and
`report.js` draws the arrays that lie in the page as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from zoo.analyses.metric_labels import metric_label
from zoo.comparison import file_name
from zoo.errors import UserError
from zoo.figures.style import DPI
from zoo.files import read_json
from zoo.report.filters import FILTERS
from zoo.report.viewer_data import (
    Arrays,
    Data,
    data_uri,
    heat_map_data,
    image_data,
    is_heat_map,
    split_name,
    words,
)

HERE = Path(__file__).parent
ASSETS = ("report.js", "report.css")
SCREEN_DPI = 128  # figures are lettered for paper; on a screen they are drawn a third larger
MOST_ROWS = 25  # of a table that is shown at full length
SVG_LIMIT = 400_000  # bytes; of larger ones the png is taken, where that is smaller
FAMILIES = {
    "vit": "vision transformer",
    "windowed": "windowed transformer",
    "cnn": "convolutional network",
    "mlp": "MLP on tokens",
    "other": "other",
}
# A verdict's mark and its class in the style sheet.
VERDICTS = {
    "supported": ("✓", "yes"),
    "not supported": ("✗", "no"),
    "not applicable": ("–", "none"),
}


@dataclass(frozen=True)
class Table:
    """Numbers by measure (rows) and model or pair of models (columns); None where there is none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def render(folder: Path) -> str:
    """Return a saved comparison as one self-contained HTML page.

    Args:
        folder: holds `report.json`, `figures/` and `arrays/`; nothing in it is changed.

    Raises:
        UserError: a file of the comparison is missing or damaged.
    """
    report = read_json(folder / "report.json")
    script, sheet = ((HERE / name).read_text(encoding="utf-8") for name in ASSETS)
    try:
        models = [model["name"] for model in report["models"]]
        sections = [_section(analysis, folder, models) for analysis in report["analyses"]]
        tally = _tally(report["claims"])
        idle = _by_reason(report["claims"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'report.json'} is damaged ({error!r}); run the comparison again"
        ) from None
    return _environment().get_template("template.html.j2").render(
        report=report,
        title=" vs ".join(models),
        names=models,
        sections=sections,
        tally=tally,
        floors=any(claim["untrained"] for claim in report["claims"]),
        idle=idle,
        script=Markup(script),
        policy=_policy(script),
        sheet=Markup(sheet),
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(verdicts=VERDICTS, families=FAMILIES)
    environment.filters.update(FILTERS, words=words, island=htmlsafe_json_dumps)
    return environment


def _policy(script: str) -> str:
    """Return the page's content policy: this very script may run, and nothing may be loaded."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _section(analysis: Data, folder: Path, models: Sequence[str]) -> dict[str, Any]:
    """Gather what the template needs of one analysis."""
    arrays = _load_arrays(folder, analysis)
    heat = heat_map_data(analysis, arrays, models)
    viewer_data = [image_data(analysis, arrays, models), heat]
    many = len(models) > 2
    # Of more than two models, each pair has a place of its own, after all of them at a glance.
    pairs = {
        file_name(f"{analysis['name']}-{a}__{b}"): f"{a} × {b}"
        for a, b in combinations(models, 2)
        if many
    }
    figures = [
        _figure(folder / "figures", name, analysis)
        | {"pair": pairs.get(name, ""), "caption": caption_of(name, analysis, models)}
        for name in analysis["figures"]
    ]
    glance = f"{analysis['name']}-models"
    table = pivot_metrics(analysis["metrics"], analysis["name"], models)
    return {
        "about": analysis,
        "glance": [figure for figure in figures if figure["name"] == glance],
        "figures": [figure for figure in figures if figure["name"] != glance],
        "table": table,
        "long": len(table.rows) > MOST_ROWS,
        "islands": [island for island in viewer_data if island],
        # Where the interactive map holds all that the figures show, they wait folded for print.
        "folded": not many
        and heat is not None
        and len({entry["measure"] for entry in heat["maps"]}) == 1
        and all(is_heat_map(name, arrays) for name in arrays),
    }


def _load_arrays(folder: Path, analysis: Data) -> Arrays:
    if not analysis["arrays"]:
        return {}
    path = folder / analysis["arrays"]
    try:
        with np.load(path, allow_pickle=False) as saved:
            return {n: (saved[n], tuple(d)) for n, d in analysis["dims"].items() if n in saved}
    except FileNotFoundError:
        raise UserError(f"no file {path}; run the comparison again") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); run the comparison again") from None


def _figure(folder: Path, name: str, analysis: Data) -> dict[str, Any]:
    """Embed a figure: as svg, unless that is large and the png is smaller."""
    try:
        vector, raster = ((folder / f"{name}.{kind}").read_bytes() for kind in ("svg", "png"))
    except FileNotFoundError as error:
        raise UserError(f"no file {error.filename}; run the comparison again") from None
    size = raster[16:24]  # a png's width and height
    if len(size) < 8:
        raise UserError(f"{folder / name}.png is damaged; run the comparison again")
    small = len(vector) <= max(SVG_LIMIT, len(raster))
    width, height = (side / DPI for side in struct.unpack(">II", size))
    return {
        "src": data_uri(vector, "image/svg+xml") if small else data_uri(raster, "image/png"),
        "width": round(width * SCREEN_DPI),
        "height": round(height * SCREEN_DPI),
        "print_width": round(width * 96),
        "name": name,
    }


def caption_of(figure: str, analysis: Data, models: Sequence[str]) -> str:
    """Say what a figure shows: as the analysis does, or by its name."""
    pairs = {f"{a}__{b}": f"{a} and {b}" for a, b in product(models, models)}
    for name, text in analysis["captions"].items():
        for key, subject in ({m: m for m in models} | pairs).items():
            if file_name(name.format(key)) == figure:
                return str(text.format(subject))
    return words(figure.removeprefix(analysis["name"]).strip("-")) or str(analysis["title"])


def pivot_metrics(metrics: Mapping[str, float], analysis: str, models: Sequence[str]) -> Table:
    """Lay metrics named `<analysis>/<model or pair>/<what>` out with a column for each model.

    >>> pivot_metrics({"accuracy/a": 1.0, "accuracy/b": 0.5}, "accuracy", ["a", "b"])
    Table(columns=('a', 'b'), rows=(('accuracy', (1.0, 0.5)),))
    """
    cells: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        what, subject, rest = split_name(name, models)
        if what != analysis:
            rest = "/".join(filter(None, (what, rest)))
        row = metric_label(analysis, rest) or words(rest) or words(what)
        cells.setdefault(row, {})[subject or "all"] = value
    pairs = [f"{a} × {b}" for a, b in product(models, models)]
    used = {column for row in cells.values() for column in row}
    columns = tuple(c for c in dict.fromkeys([*models, *pairs, "all"]) if c in used)
    rows = tuple((what, tuple(row.get(c) for c in columns)) for what, row in cells.items())
    return Table(columns, rows)


def _tally(claims: Iterable[Data]) -> str:
    verdicts = [claim["verdict"] for claim in claims]
    return " · ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS if v in verdicts)


def _by_reason(claims: Iterable[Data]) -> dict[str, list[Data]]:
    """Gather the claims that do not apply by what they would need."""
    found: dict[str, list[Data]] = {}
    for claim in claims:
        if claim["verdict"] == "not applicable":
            found.setdefault(claim["detail"], []).append(claim)
    return found
