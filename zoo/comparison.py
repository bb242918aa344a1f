"""A finished comparison: its identity, its summary in words, and its folder.

The identity of its numbers is a digest over everything that decides them: the models, the images,
the settings, the device, zoo's measuring code, torch and timm. Computing it needs neither torch nor
the models' weights. How the numbers are told has an identity of its own, `looks`.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.config import Settings
from zoo.errors import UserError, unknown
from zoo.files import code_digest, user_path, write_json, write_text
from zoo.folders import FolderKind, check_replaceable, replacing_folder
from zoo.models.spec import describe_training
from zoo.progress import OnProgress, no_progress
from zoo.study.results import ComparisonResults

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from zoo.analyses.about import Drawing
    from zoo.claims import Verdict
    from zoo.models.files import LoadedModel
    from zoo.study.networks import ComparedNetwork, Study
    from zoo.study.results import Metric, Result

FILES = REPORT, PAGE, RESULTS = "report.json", "report.html", "results.nc"
FOLDER = FolderKind(
    REPORT,
    ("zoo_version", "digest"),
    files=(PAGE, RESULTS),
    folders={
        "figures": FolderKind(files=("*.png", "*.svg")),
        "arrays": FolderKind(files=("*.npz",)),  # of zoo 0.1
    },
)
# The code that decides a comparison's numbers, and the code that decides how they are told: a
# change of the latter draws a saved comparison again, and runs no network.
NUMBERS = (
    "analyses",
    "capture",
    "config.py",
    "data/sampling.py",
    "mapping.py",
    "measures",
    "models",
    "study",
)
LOOKS = ("analyses", "claims", "comparison.py", "figures", "report")
# What a comparison counts, in order.
DRAWN = "analyses drawn"
PARTS = ("images", "analyses", DRAWN)
LIBRARIES = ("numpy", "pillow", "scikit-learn", "scipy", "timm", "torch", "torchvision")


def comparison_digest(
    models: Sequence[tuple[str, str]],
    images: str,
    count: int,
    analyses: Sequence[str],
    settings: Settings,
    siblings: Sequence[str] = (),
    device: str = "",
) -> str:
    """Return the identity of a comparison's numbers before it is made.

    Args:
        models: (name, digest) of each, in order.
        images: digest of the images.
        count: how many of them are used.
        analyses: names of the analyses.
        settings: everything else that decides the numbers.
        siblings: digests of other seeds that serve as references.
        device: where the networks run, as it was asked for.
    """
    identity = {
        "models": [list(model) for model in models],
        "images": images,
        "count": count,
        "analyses": list(analyses),
        "settings": dataclasses.asdict(settings),
        "siblings": list(siblings),
        "device": device,
        "code": _numbers_code(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@cache
def _numbers_code() -> str:
    return code_digest(NUMBERS)


@cache
def looks() -> str:
    """Return the identity of how results are told: claims, figures, texts and the page."""
    return code_digest(LOOKS)


@dataclass(frozen=True)
class Comparison:
    """A comparison's results; shows itself in a notebook, and saves itself into a folder.

    `comparison["cka"]` holds the labelled variables of an analysis, `maps("attention-maps", NAME)`
    those of one network, `to_frame()` every scalar.
    """

    results: ComparisonResults

    def __getitem__(self, analysis: str) -> xr.Dataset:
        """Return the labelled variables of an analysis."""
        return self._result(analysis).data

    def maps(self, analysis: str, network: str, layer: str = "", network_b: str = "") -> xr.Dataset:
        """Return what is a network's own, one of its layers', or a pair's, such as its maps."""
        return self._result(analysis).part(network, layer, network_b)

    def _result(self, analysis: str) -> Result:
        if analysis not in self.results.results:
            raise unknown("analysis in this comparison:", analysis, self.results.results)
        return self.results.results[analysis]

    @cached_property
    def tree(self) -> xr.DataTree:
        """Everything that was found, as one labelled tree: a group an analysis."""
        return self.results.to_tree()

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The papers' claims, each tested on these results."""
        from zoo.claims import judge

        return tuple(judge(self.results))

    def to_frame(self) -> Any:
        """Return every scalar as a `pandas.DataFrame`, a row each, with its interval and n."""
        return self.results.to_frame()

    def plot(self, analysis: str) -> dict[str, Figure]:
        """Return the figures of an analysis by name, as the report shows them."""
        self._result(analysis)
        drawn = _draw(self.results, analysis)
        return dict(zip(figure_names(drawn), (drawing.figure for drawing in drawn), strict=True))

    def summary(self) -> str:
        """Return the finding in one paragraph, made of measured numbers."""
        from zoo.report.finding import describe_finding

        return describe_finding(self.results, self.verdicts)

    def report(self) -> dict[str, Any]:
        """Return everything but variables and figures, as JSON values."""
        return {
            **self.results.provenance,
            "looks": looks(),
            "summary": self.summary(),
            "analyses": [self._analysis(name) for name in self.results.results],
            "not_applicable": dict(self.results.not_applicable),
            "claims": [verdict.as_dict() for verdict in self.verdicts],
            "metrics": [self._metric(name, metric) for name, metric in self.results.metrics()],
        }

    def save(self, folder: Path | str, on_progress: OnProgress = no_progress) -> dict[str, Any]:
        """Write report.html, report.json, figures/ and results.nc; return the report.

        The folder appears complete or not at all. One that was saved before is replaced; any
        other that is not empty is a `UserError`. `on_progress` is told of every analysis drawn.
        """
        from zoo.figures.saving import saving
        from zoo.report.html import render

        folder = user_path(folder)
        check_replaceable(folder, FOLDER)
        report = self.report()
        with replacing_folder(folder, FOLDER) as new, _unwatched_memory():
            self.tree.to_netcdf(new / RESULTS, engine="h5netcdf")
            with saving(new / "figures") as save:
                for done, entry in enumerate(report["analyses"]):
                    on_progress(done, len(report["analyses"]), DRAWN)
                    drawn = _draw(self.results, entry["name"])
                    names = figure_names(drawn)
                    for name, drawing in zip(names, drawn, strict=True):
                        save(drawing.figure, name)
                        entry["figures"].append(
                            {
                                "file": name,
                                "of": list(drawing.of),
                                "caption": _caption(entry["name"], drawing),
                            }
                        )
            on_progress(len(report["analyses"]), len(report["analyses"]), DRAWN)
            write_json(new / REPORT, report)
            write_text(new / PAGE, render(report, self.results, new / "figures"))
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
        from zoo.analyses import load_analysis

        known = load_analysis(analysis).ABOUT.metrics
        ends = {"low": metric.low, "high": metric.high}
        return {
            "analysis": analysis,
            "measure": metric.measure,
            "label": known.get(metric.measure, metric.measure.replace("_", " ")),
            "network": metric.network,
            "network_b": metric.network_b,
            "value": metric.value,
            "directed": metric.pair == "directed",
            **{end: value for end, value in ends.items() if math.isfinite(value)},
        }


def open_results(path: Path | str) -> Comparison:
    """Open a saved comparison: its `results.nc`, or the folder that holds it.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    import xarray as xr

    path = user_path(path)
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no file {file}: zoo compare writes one, and Comparison.save")
    try:
        with xr.open_datatree(file, engine="h5netcdf") as tree:
            return Comparison(ComparisonResults.from_tree(tree.load()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise UserError(f"{file} holds no comparison ({why}); compare again") from None


def redraw(folder: Path, on_progress: OnProgress = no_progress) -> dict[str, Any]:
    """Draw a saved comparison's figures and page again from its results; no network runs."""
    return open_results(folder).save(folder, on_progress)


def provenance(
    models: Sequence[LoadedModel],
    study: Study,
    *,
    digest: str,
    images_digest: str,
    source: str = "",
    command: str = "",
    links: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a comparison's numbers come from, as JSON values."""
    from zoo import __version__

    return {
        "zoo_version": __version__,
        "digest": digest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "models": [
            _model(model, network, links[i] if i < len(links) else "")
            for i, (model, network) in enumerate(zip(models, study.compared, strict=True))
        ],
        "images": {
            "count": len(study.images),
            "digest": images_digest,
            "source": source,
            "class_names": list(study.class_names),
            "shown": list(study.shown),
        },
        "settings": dataclasses.asdict(study.settings),
        "environment": _environment(study.device),
    }


def _model(model: LoadedModel, network: ComparedNetwork, link: str) -> dict[str, Any]:
    spec = model.spec
    return {
        "name": network.name,
        "uri": model.uri,
        "link": link,
        "digest": model.digest,
        "arch": spec.arch,
        "family": network.family,
        "parameters": spec.parameters,
        "image_size": spec.image_size,
        "source": spec.source,
        "subset": spec.subset,
        "subset_count": spec.subset_count,
        "seed": spec.seed,
        "training": describe_training(spec),
        "metrics": spec.metrics,
        "layers": list(network.layers),
    }


def _draw(results: ComparisonResults, analysis: str) -> list[Drawing]:
    from zoo.analyses import load_analysis

    names = [network.name for network in results.compared]
    drawn: list[Drawing] = load_analysis(analysis).draw(results.results[analysis], names)
    return drawn


def figure_names(drawn: Sequence[Drawing]) -> list[str]:
    """Return a file name for each drawing, all different, whatever the networks are called."""
    names: list[str] = []
    for drawing in drawn:
        name = file_name(drawing.kind.format("__".join(drawing.of)))
        while name in names:
            name += "-"
        names.append(name)
    return names


def _caption(analysis: str, drawing: Drawing) -> str:
    from zoo.analyses import load_analysis

    text: str = load_analysis(analysis).ABOUT.captions[drawing.kind]
    return text.format(" and ".join(drawing.of))


@contextmanager
def _unwatched_memory() -> Iterator[None]:
    """Let garbage collection pass over what is there already: drawing makes it run often.

    With torch and the models in memory, it takes a fifth of the time of a report.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def file_name(name: str) -> str:
    """Return a figure's or a model's name as a file name: what no file system or URL trips over.

    >>> file_name("cka-vit small/2__a")
    'cka-vit-small-2__a'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _environment(device: Any) -> dict[str, str]:
    import platform

    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "timm": version("timm"),
        "python": platform.python_version(),
    }
