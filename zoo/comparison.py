"""A finished comparison: its results, its summary in words, and its folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError, brief, unknown
from zoo.figures.names import file_name
from zoo.files import user_path, write_json, write_text
from zoo.files.folders import FolderKind, check_replaceable, replacing_folder
from zoo.progress import OnProgress, no_progress
from zoo.report.figures import DRAWN, draw, draw_all
from zoo.study import axes
from zoo.study.identity import looks, numbers_code
from zoo.study.results import SIGNED, ComparisonResults

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from zoo.claims import Verdict
    from zoo.study.results import Metric, Result

FILES = REPORT, PAGE, RESULTS = "report.json", "report.html", "results.nc"
FIGURES = "figures"
FOLDER = FolderKind(
    REPORT,
    ("zoo_version", "digest"),
    files=(PAGE, RESULTS),
    folders={FIGURES: FolderKind(files=("*.png", "*.svg"))},
)
# What a comparison counts, in order.
PARTS = ("images", "analyses", DRAWN)


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison; a notebook displays them, and `save` writes them to a folder.

    `comparison["cka"]` holds the labelled variables of an analysis, `maps("attention-maps", NAME)`
    those of one network, `to_frame()` every scalar.
    """

    results: ComparisonResults

    def __getitem__(self, analysis: str) -> xr.Dataset:
        """Return the labelled variables of an analysis."""
        return self._result(analysis).data

    def maps(self, analysis: str, network: str, layer: str = "", network_b: str = "") -> xr.Dataset:
        """Return the variables of one network, one of its layers, or a pair, such as its maps.

        Raises:
            UserError: the analysis has none of these; the message names those that it has.
        """
        result = self._result(analysis)
        try:
            return result.part(network, layer, network_b)
        except KeyError:
            parts = [(part.network, part.layer, part.network_b) for part in result.parts]
            asked = " ".join(filter(None, (network, layer, network_b)))
            valid = (" ".join(filter(None, part)) for part in parts)
            raise unknown(f"maps of {analysis}:", asked, valid) from None

    def _result(self, analysis: str) -> Result:
        if analysis not in self.results.results:
            raise unknown("analysis in this comparison:", analysis, self.results.results)
        return self.results.results[analysis]

    @cached_property
    def tree(self) -> xr.DataTree:
        """All results as one labelled tree, with one group per analysis."""
        from zoo.study.tree import to_tree

        return to_tree(self.results)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The papers' claims, each tested on these results."""
        from zoo.claims import judge

        return tuple(judge(self.results))

    def to_frame(self) -> Any:
        """Return every scalar as a `pandas.DataFrame`: one row each, with its interval and n."""
        return self.results.to_frame()

    def plot(self, analysis: str) -> dict[str, Figure]:
        """Return the figures of an analysis by name, as the report shows them."""
        self._result(analysis)
        return {name: drawing.figure for name, drawing in draw(self.results, analysis).items()}

    def summary(self) -> str:
        """Return the finding in a few sentences, made of measured numbers."""
        from zoo.report.finding import describe_finding

        return describe_finding(self.results, self.verdicts)

    def report(self) -> dict[str, Any]:
        """Return everything except variables and figures, as JSON values."""
        from zoo.claims.dominant import rest_on_few_images
        from zoo.report.cautions import cautions
        from zoo.report.contrasts import contrasts
        from zoo.report.finding_table import numbers
        from zoo.study.seeds import over_seeds

        return {
            **self.results.provenance,
            "looks": looks(),
            "summary": self.summary(),
            "contrasts": [
                dataclasses.asdict(said) for said in contrasts(self.results, self.verdicts)
            ],
            "numbers": [dataclasses.asdict(number) for number in numbers(self.results)],
            "cautions": [
                *cautions(self.results),
                *rest_on_few_images(self.results, self.verdicts),
            ],
            "networks": [
                {"name": n.name, "model": n.model, "state": n.state, "seed": n.seed}
                for n in self.results.networks
            ],
            "analyses": [self._analysis(name) for name in self.results.results],
            "not_applicable": dict(self.results.not_applicable),
            "claims": [verdict.as_dict() for verdict in self.verdicts],
            "metrics": [self._metric(name, metric) for name, metric in self.results.metrics()],
            "seeds": [
                {"label": _label(row.analysis, row.measure)} | row.as_dict()
                for row in over_seeds(self.results)
            ],
        }

    def save(self, folder: Path | str, on_progress: OnProgress = no_progress) -> dict[str, Any]:
        """Write report.html, report.json, figures/ and results.nc; return the report.

        The folder appears complete or not at all. An earlier saved comparison is replaced;
        any other folder that is not empty is a `UserError`. `on_progress` is called for every
        analysis drawn.
        """
        from zoo.report.html import render
        from zoo.study.tree import write_tree

        folder = user_path(folder)
        check_replaceable(folder, FOLDER)
        report = self.report()
        with replacing_folder(folder, FOLDER) as new:
            write_tree(self.tree, new / RESULTS)
            figures = draw_all(self.results, new / FIGURES, on_progress)
            for entry in report["analyses"]:
                entry["figures"] = figures[entry["name"]]
            write_json(new / REPORT, report)
            write_text(new / PAGE, render(report, self.results, new / FIGURES))
        return report

    def __repr__(self) -> str:
        """Say what was found, instead of every array."""
        return f"Comparison: {self.summary() or ', '.join(self.results.results)}"

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        import html
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder) / "comparison")
            page = (Path(folder) / "comparison" / PAGE).read_text(encoding="utf-8")
        return (
            f'<iframe srcdoc="{html.escape(page)}" title="zoo comparison" '
            'sandbox="allow-scripts allow-popups allow-popups-to-escape-sandbox" '
            'style="width:100%;height:80vh;border:1px solid #8888"></iframe>'
        )

    def _analysis(self, name: str) -> dict[str, Any]:
        from zoo.analyses import load_analysis

        result, about = self.results.results[name], load_analysis(name).ABOUT
        return {
            "name": name,
            "title": about.title,
            "shows": about.shows,
            "reading": about.reading,
            "source": about.source,
            "settings": list(about.settings),
            "images": result.images or self.results.images,
            "notes": list(result.notes),
            "figures": [],
        }

    def _metric(self, analysis: str, metric: Metric) -> dict[str, Any]:
        ends = {"low": metric.low, "high": metric.high}
        return {
            "analysis": analysis,
            "measure": metric.measure,
            "label": _label(analysis, metric.measure),
            "network": metric.network,
            "network_b": metric.network_b,
            "value": metric.value,
            "directed": metric.pair == "directed",
            **{end: value for end, value in ends.items() if math.isfinite(value)},
        }


def select(values: xr.DataArray, network: str = "", network_b: str = "", **equal: Any) -> Any:
    """Select one network's part of a variable of results, or a pair's.

    Args:
        values: with the coordinate `network`, and for pairs `network_b`.
        network: the network on the first axis over networks; all if empty.
        network_b: the network on the second one.
        equal: other coordinates, each with the value or values to select.

    Raises:
        UserError: the variable has no such coordinate, or none of the values is on it.

    >>> import xarray as xr
    >>> depth = xr.DataArray([0.5, 1.0, 1.0], dims="layer")
    >>> depth = depth.assign_coords(network=("layer", ["a", "a", "b"]))
    >>> select(depth, "a").values.tolist()
    [0.5, 1.0]
    """
    for coordinate, wanted in ({"network": network, "network_b": network_b} | equal).items():
        if wanted == "":
            continue
        if coordinate not in values.coords:
            raise unknown("coordinate", coordinate, map(str, values.coords))
        there = set(values.coords[coordinate].values.ravel().tolist())
        among = [wanted] if isinstance(wanted, str | int | float) else list(wanted)
        if not there & set(among):
            raise unknown(coordinate, wanted, map(str, there))
    return axes.select(values, network, network_b, **equal)


def open_results(path: Path | str) -> Comparison:
    """Open a saved comparison: its `results.nc`, or the folder that holds it.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    import xarray as xr

    from zoo.study.tree import from_tree

    path = user_path(path)
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no file {file}: zoo compare writes one, and Comparison.save")
    try:
        with xr.open_datatree(file, engine="h5netcdf") as tree:
            # DataTree.load passes over a variable that is named as a group is.
            return Comparison(from_tree(tree.map_over_datasets(xr.Dataset.load)))
    except UserError as error:
        raise UserError(f"{file} is of another version of zoo ({error}); compare again") from None
    except Exception as error:
        # What reads HDF5 raises whatever it meets in damaged bytes.
        raise UserError(
            f"{file} holds no comparison or is damaged ({brief(error)}); compare again"
        ) from None


def redraw(folder: Path, on_progress: OnProgress = no_progress) -> dict[str, Any]:
    """Draw a saved comparison's figures and page again from its results; no network runs.

    Raises:
        UserError: its results are damaged, or code that measured other variables wrote them.
    """
    comparison = open_results(folder)
    try:
        return comparison.save(folder, on_progress)
    except UserError:
        raise
    except (KeyError, IndexError, ValueError) as error:
        known = comparison.results.provenance
        if known.get("code") == numbers_code():
            raise
        raise UserError(
            f"{folder / RESULTS} was measured by other code (zoo {known.get('zoo_version', '?')}), "
            f"and this zoo cannot draw it ({type(error).__name__}: {error}); compare again"
        ) from None


def figure_files(report: Mapping[str, Any]) -> list[str]:
    """Return the names of the files in the figures' folder of a saved comparison.

    Raises:
        UserError: one of them is no plain file name.
    """
    figures = [figure["file"] for entry in report["analyses"] for figure in entry["figures"]]
    if strange := [name for name in figures if name != file_name(name)]:
        raise UserError(f"{REPORT} names a figure {strange[0]!r}: expected a plain file name")
    return [f"{name}.{kind}" for name in figures for kind in ("png", "svg")]


def _label(analysis: str, measure: str) -> str:
    from zoo.analyses import load_analysis

    about = load_analysis(analysis).ABOUT
    if measure not in about.metrics:  # of an earlier version
        return measure.replace("_", " ")
    label, unit = about.metrics[measure], about.unit_of(measure)
    return label if unit in ("", SIGNED, "number") else f"{label} ({unit})"
