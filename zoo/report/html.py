"""The comparison's page: one self-contained HTML file.

It is made of results and figures alone and computes nothing. The template escapes all text, and
`report.js` draws the arrays that lie in the page as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from PIL import Image

from zoo.claims.base import NOT_APPLICABLE
from zoo.errors import UserError
from zoo.figures.style import COLOURS, DPI
from zoo.report.answers import answer
from zoo.report.embedding import data_uri, picture_uri
from zoo.report.filters import FILTERS
from zoo.report.finding import pixels_explain_most
from zoo.report.questions import (
    FOR_PRINT,
    GLOSSARY,
    PAPERS,
    QUESTIONS,
    WITH_PANEL,
    WITHOUT_HEAT_MAP,
    Question,
)
from zoo.report.viewer_data import heat_map_data, image_data, words
from zoo.study.results import ComparisonResults

Data = Mapping[str, Any]

HERE = Path(__file__).parent
ASSETS = ("report.js", "report.css")
SCREEN_DPI = 128  # figures are lettered for paper; on a screen they are drawn a third larger
MOST_ROWS = 25  # of a table that is shown at full length
LARGE_FIGURE = 120_000  # bytes without loss, which few but figures of photographs have
SVG_LIMIT = 100_000  # bytes; larger ones hold pictures, and are pictures where that is smaller
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
    """Numbers by measure (rows) and model or pair of models (columns).

    A cell is a value and the ends of its interval, None where there are none; `()` is no value.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float | None, ...], ...]], ...]


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
    names = [model["name"] for model in report["models"]]
    sections = {
        analysis["name"]: _section(
            analysis, [*report["metrics"], *map(_as_metric, report["seeds"])], results, figures
        )
        for analysis in report["analyses"]
    }
    tested = [claim for claim in report["claims"] if claim["verdict"] != NOT_APPLICABLE]
    claims = [claim | {"place": f"claim-{claim['id']}-{i}"} for i, claim in enumerate(tested, 1)]
    return environment().get_template("template.html.j2").render(
        report=report,
        title=" vs ".join(names),
        names=names,
        questions=[
            asked for question in QUESTIONS if (asked := _ask(question, sections, results, claims))
        ],
        claims=claims,
        tally=_tally(report["claims"]),
        idle=_by_reason(report["claims"]),
        script=Markup(script),
        policy=_policy(script),
        sheet=Markup(sheet),
    )  # fmt: skip


def _ask(
    question: Question,
    sections: Mapping[str, dict[str, Any]],
    results: ComparisonResults,
    claims: Sequence[Data],
) -> dict[str, Any] | None:
    """Gather what answers a question; None where nothing does."""
    own = [sections[name] for name in question.analyses if name in sections]
    said = answer(question.id, results, claims)
    judged = [c for c in claims if _question_of(c).id == question.id]
    if not (own or said or judged):
        return None
    return {
        "about": question,
        "answer": said,
        "hero": _take_hero(
            question.heroes, [*sections.values()], [n.name for n in results.compared]
        ),
        "claims": judged,
        "moved": [c for c in claims if c["before"]] if question.id == "learnt" else [],
        "sections": own,
    }


def _question_of(claim: Data) -> Question:
    named = [q for q in QUESTIONS if claim["id"] in q.claims]
    return (named or [q for q in QUESTIONS if claim["analysis"] in q.analyses])[0]


def _take_hero(
    kinds: Sequence[str], sections: Sequence[dict[str, Any]], compared: Sequence[str]
) -> dict[str, Any] | None:
    """Take the best figure that shows all compared models, and its viewers, out of its section."""
    for kind in kinds:
        for section in sections:
            for figure in section["figures"]:
                if figure["kind"] == kind and figure["of"] in ([], list(compared)):
                    section["figures"] = [f for f in section["figures"] if f is not figure]
                    viewers = section["viewers"] if kind in WITH_PANEL else []
                    section["viewers"] = [] if viewers else section["viewers"]
                    return {"about": section["about"], "figure": figure, "viewers": viewers}
    return None


def environment() -> Environment:
    """Return what renders the page's templates."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        verdicts=VERDICTS, families=FAMILIES, papers=PAPERS, glossary=GLOSSARY, colours=len(COLOURS)
    )
    made.filters.update(FILTERS, words=words, as_json=htmlsafe_json_dumps)
    return made


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
    viewers = [image_data(result, analysis["title"], compared)]
    if analysis["name"] not in WITHOUT_HEAT_MAP:
        first = "cka_deconfounded" if pixels_explain_most(results) else "cka"
        viewers.append(heat_map_data(result, analysis["title"], compared, first))
    many = len(compared) > 2
    figures = [
        embed_figure(folder, figure["file"])
        | {
            "kind": figure["kind"],
            "of": figure["of"],
            "for_print": figure["kind"] in FOR_PRINT,
            # Of more than two models, each pair has a place of its own.
            "pair": " × ".join(figure["of"]) if many and len(figure["of"]) == 2 else "",
            "caption": figure["caption"],
        }
        for figure in analysis["figures"]
    ]
    table = pivot_metrics([m for m in metrics if m["analysis"] == analysis["name"]], compared)
    return {
        "about": analysis,
        "figures": figures,
        "table": table,
        "long": len(table.rows) > MOST_ROWS,
        "viewers": [viewer for viewer in viewers if viewer],
    }


def _as_metric(row: Data) -> dict[str, Any]:
    """Return a number over seeds as a row of the table of its analysis."""
    own = f"mean of {len(row['values'])} seeds" if row["values"] else "all seeds"
    name = f"{' × '.join(row['of'])}, {own}"
    of = {"network": name, "network_b": "", "value": row["mean"]}
    return {key: row[key] for key in ("analysis", "label", "low", "high")} | of


def embed_figure(folder: Path, name: str) -> dict[str, Any]:
    """Embed a figure: as svg, or as the picture that the png is, where that is much smaller."""
    try:
        vector, raster = ((folder / f"{name}.{kind}").read_bytes() for kind in ("svg", "png"))
    except FileNotFoundError as error:
        raise UserError(f"no file {error.filename}; run the comparison again") from None
    try:
        picture = Image.open(io.BytesIO(raster))
        source = data_uri(vector, "image/svg+xml")
        if len(vector) > SVG_LIMIT:
            source = min(source, picture_uri(picture.convert("RGB"), LARGE_FIGURE), key=len)
    except OSError:
        raise UserError(f"{folder / name}.png is damaged; run the comparison again") from None
    width, height = (side / DPI for side in picture.size)
    return {
        "src": source,
        "width": round(width * SCREEN_DPI),
        "height": round(height * SCREEN_DPI),
        "print_width": round(width * 96),
        "name": name,
    }


def pivot_metrics(metrics: Sequence[Data], compared: Sequence[str]) -> Table:
    """Lay metrics out with a row for each measure and a column for each network or pair.

    >>> rows = [{"label": "accuracy", "network": n, "network_b": "", "value": 1.0} for n in "ab"]
    >>> pivot_metrics(rows, ["a", "b"])
    Table(columns=('a', 'b'), rows=(('accuracy', ((1.0, None, None), (1.0, None, None))),))
    """
    cells: dict[str, dict[tuple[str, ...], tuple[float | None, ...]]] = {}
    for metric in metrics:
        of = tuple(name for name in (metric["network"], metric["network_b"]) if name)
        found = metric["value"], metric.get("low"), metric.get("high")
        cells.setdefault(metric["label"], {})[of] = found
    used = dict.fromkeys(of for row in cells.values() for of in row)
    order = {name: i for i, name in enumerate(compared)}
    # Networks first, then pairs, what is of references and what is of all of them.
    ranks = {of: (not of, len(of), *(order.get(name, len(order)) for name in of)) for of in used}
    columns = sorted(used, key=ranks.__getitem__)
    rows = tuple((what, tuple(row.get(c, ()) for c in columns)) for what, row in cells.items())
    return Table(tuple(" × ".join(c) or "all" for c in columns), rows)


def _tally(claims: Iterable[Data]) -> str:
    verdicts = [claim["verdict"] for claim in claims]
    return " · ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS if v in verdicts)


def _by_reason(claims: Iterable[Data]) -> dict[str, list[Data]]:
    """Gather the claims that do not apply by what they would need."""
    found: dict[str, list[Data]] = {}
    for claim in claims:
        if claim["verdict"] == NOT_APPLICABLE:
            found.setdefault(claim["detail"], []).append(claim)
    return found
