"""The comparison's page: one HTML file that needs nothing but itself.

It is made of results and figures alone and computes nothing. The template escapes all text, and
`report.js` draws the arrays that lie in the page as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from zoo.errors import UserError
from zoo.figures.style import DPI
from zoo.report.filters import FILTERS
from zoo.report.viewer_data import data_uri, heat_map_data, image_data, is_heat_map, words
from zoo.study.results import ComparisonResults

if TYPE_CHECKING:
    import xarray as xr

Data = Mapping[str, Any]

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
    "built in": ("=", "built"),
    "undecided": ("?", "open"),
    "not supported": ("✗", "no"),
    "not applicable": ("–", "none"),
}


@dataclass(frozen=True)
class Table:
    """Numbers by measure (rows) and model or pair of models (columns); None where there is none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def render(report: Mapping[str, Any], results: ComparisonResults, figures: Path) -> str:
    """Return a comparison as one self-contained HTML page.

    Args:
        report: as in report.json.
        results: of the same comparison.
        figures: the folder of its figures, png and svg.

    Raises:
        UserError: a figure is missing or damaged.
    """
    script, sheet = ((HERE / name).read_text(encoding="utf-8") for name in ASSETS)
    models = [model["name"] for model in report["models"]]
    sections = [
        _section(analysis, report["metrics"], results, figures) for analysis in report["analyses"]
    ]
    return _environment().get_template("template.html.j2").render(
        report=report,
        title=" vs ".join(models),
        names=models,
        sections=sections,
        tally=_tally(report["claims"]),
        idle=_by_reason(report["claims"]),
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
    environment.filters.update(FILTERS, words=words, as_json=htmlsafe_json_dumps)
    return environment


def _policy(script: str) -> str:
    """Return the page's content policy: this very script may run, and nothing may be loaded."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _section(
    analysis: Data, metrics: Sequence[Data], results: ComparisonResults, folder: Path
) -> dict[str, Any]:
    """Gather what the template needs of one analysis."""
    result = results.results[analysis["name"]]
    compared = [network.name for network in results.compared]
    heat = heat_map_data(result, analysis["title"], compared)
    viewers = [image_data(result, analysis["title"], compared), heat]
    many = len(compared) > 2
    # Of more than two models, each pair has a place of its own, after all of them at a glance.
    figures = [
        _figure(folder, figure["file"])
        | {
            "pair": " × ".join(figure["of"]) if many and len(figure["of"]) == 2 else "",
            "caption": figure["caption"],
            "glance": not figure["of"] and many and heat is not None,
        }
        for figure in analysis["figures"]
    ]
    table = pivot_metrics([m for m in metrics if m["analysis"] == analysis["name"]], compared)
    return {
        "about": analysis,
        "glance": [figure for figure in figures if figure["glance"]],
        "figures": [figure for figure in figures if not figure["glance"]],
        "table": table,
        "long": len(table.rows) > MOST_ROWS,
        "viewers": [viewer for viewer in viewers if viewer],
        # Where the interactive map holds all that the figures show, they wait folded for print.
        "folded": not many
        and heat is not None
        and not result.parts
        and [is_heat_map(values) for values in _measured(result.data)] == [True],
    }


def _measured(data: xr.Dataset) -> list[xr.DataArray]:
    """Return the variables that are not named after another: those are its intervals and kin."""
    names = [str(name) for name in data]
    return [data[n] for n in names if not any(n.startswith(f"{other}_") for other in names)]


def _figure(folder: Path, name: str) -> dict[str, Any]:
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


def pivot_metrics(metrics: Sequence[Data], compared: Sequence[str]) -> Table:
    """Lay metrics out with a row for each measure and a column for each network or pair.

    >>> rows = [{"label": "accuracy", "network": n, "network_b": "", "value": 1.0} for n in "ab"]
    >>> pivot_metrics(rows, ["a", "b"])
    Table(columns=('a', 'b'), rows=(('accuracy', (1.0, 1.0)),))
    """
    cells: dict[str, dict[tuple[str, ...], float]] = {}
    for metric in metrics:
        of = tuple(name for name in (metric["network"], metric["network_b"]) if name)
        cells.setdefault(metric["label"], {})[of] = metric["value"]
    used = dict.fromkeys(of for row in cells.values() for of in row)
    order = {name: i for i, name in enumerate(compared)}
    # Networks first, then pairs, what is of references and what is of all of them.
    ranks = {of: (not of, len(of), *(order.get(name, len(order)) for name in of)) for of in used}
    columns = sorted(used, key=ranks.__getitem__)
    rows = tuple((what, tuple(row.get(c) for c in columns)) for what, row in cells.items())
    return Table(tuple(" × ".join(c) or "all" for c in columns), rows)


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
