"""A finished comparison: its identity, its summary in words, and its folder.

The identity is a digest over everything that decides the numbers: the models, the images, the
settings, zoo's own code, torch and timm. Computing it needs neither torch nor the models' weights.
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
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.config import Settings
from zoo.files import user_path, write_json, write_text
from zoo.folders import FolderKind, check_replaceable, replacing_folder
from zoo.models.spec import describe_training
from zoo.progress import OnProgress, no_progress

if TYPE_CHECKING:
    from zoo.analyses.engine import ComparisonResults
    from zoo.claims import Verdict
    from zoo.study.results import Result

REPORT, PAGE = "report.json", "report.html"
FOLDER = FolderKind(
    REPORT,
    ("zoo_version", "digest"),
    files=(PAGE,),
    folders={
        "figures": FolderKind(files=("*.png", "*.svg")),
        "arrays": FolderKind(files=("*.npz",)),
    },
)
CODE = (
    "analyses",
    "capture",
    "claims",
    "comparison.py",
    "config.py",
    "data/sampling.py",
    "figures",
    "mapping.py",
    "measures",
    "models",
    "report",
    "study",
)
# What a comparison counts, in order; without references nothing is measured before training.
DRAWN = "analyses drawn"
PARTS = ("images", "analyses", "images before training", "analyses before training", DRAWN)
LIBRARIES = ("numpy", "scipy", "timm", "torch", "torchvision")


def comparison_digest(
    models: Sequence[tuple[str, str]],
    images: str,
    count: int,
    analyses: Sequence[str],
    settings: Settings,
    siblings: Sequence[str] = (),
) -> str:
    """Return the identity of a comparison before it is made.

    Args:
        models: (name, digest) of each, in order.
        images: digest of the images.
        count: how many of them are used.
        analyses: names of the analyses.
        settings: everything else that decides the numbers.
        siblings: digests of other seeds that serve as references.
    """
    identity = {
        "models": [list(model) for model in models],
        "images": images,
        "count": count,
        "analyses": list(analyses),
        "settings": dataclasses.asdict(settings),
        "siblings": list(siblings),
        "code": code_digest(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@cache
def code_digest() -> str:
    """Return the digest of the code that decides a comparison's numbers and looks."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for name in CODE:
        path = root / name
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if file.suffix != ".pyc":
                digest.update(str(file.relative_to(root)).encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; shows itself in a notebook, and saves itself into a folder."""

    findings: ComparisonResults
    verdicts: tuple[Verdict, ...]
    digest: str = ""
    images_digest: str = ""
    source: str = ""
    command: str = ""
    links: tuple[str, ...] = ()
    created: str = dataclasses.field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")
    )

    @property
    def results(self) -> dict[str, Result]:
        """Results by the name of the analysis."""
        return self.findings.results

    @property
    def metrics(self) -> dict[str, float]:
        """Every scalar of every analysis."""
        return {k: v for result in self.results.values() for k, v in result.metrics.items()}

    def summary(self) -> str:
        """Return the finding in one paragraph, made of measured numbers."""
        from zoo.report.finding import describe_finding

        return describe_finding(self.findings, self.verdicts)

    def report(self) -> dict[str, Any]:
        """Return everything but arrays and figures, as JSON values."""
        from zoo import __version__

        return {
            "zoo_version": __version__,
            "digest": self.digest,
            "created": self.created,
            "command": self.command,
            "models": [self._model(i) for i in range(len(self.findings.study.models))],
            "images": self._images(),
            "settings": dataclasses.asdict(self.findings.study.settings),
            "environment": _environment(self.findings.study.device),
            "summary": self.summary(),
            "analyses": [self._analysis(name) for name in self.results],
            "not_applicable": self.findings.not_applicable,
            "claims": [verdict.as_dict() for verdict in self.verdicts],
        }

    def save(self, folder: Path | str, on_progress: OnProgress = no_progress) -> dict[str, Any]:
        """Write report.html, report.json, figures/ and arrays/; return the report.

        The folder appears complete or not at all. One that was saved before is replaced; any
        other that is not empty is a `UserError`. `on_progress` is told of every analysis drawn.
        """
        import numpy as np

        from zoo.analyses import load_analysis
        from zoo.figures.saving import saving
        from zoo.report.html import render

        folder = user_path(folder)
        check_replaceable(folder, FOLDER)
        report = self.report()
        with replacing_folder(folder, FOLDER) as new, _unwatched_memory():
            (new / "arrays").mkdir()
            with saving(new / "figures") as save:
                for done, entry in enumerate(report["analyses"]):
                    on_progress(done, len(report["analyses"]), DRAWN)
                    result = self.results[entry["name"]]
                    arrays: Any = {name: array.values for name, array in result.arrays.items()}
                    np.savez_compressed(new / entry["arrays"], **arrays)
                    figures = load_analysis(entry["name"]).draw(result)
                    for name, figure in figures.items():
                        save(figure, file_name(name))
                    entry["figures"] = [file_name(name) for name in figures]
            on_progress(len(report["analyses"]), len(report["analyses"]), DRAWN)
            write_json(new / REPORT, report)
            write_text(new / PAGE, render(new))
        return report

    def __repr__(self) -> str:
        """Say what was found, instead of every array."""
        return f"Comparison: {self.summary() or ', '.join(self.results)}"

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

    def _model(self, i: int) -> dict[str, Any]:
        subject = self.findings.study.models[i]
        spec = subject.model.spec
        return {
            "name": subject.name,
            "uri": subject.model.uri,
            "link": self.links[i] if i < len(self.links) else "",
            "digest": subject.model.digest,
            "arch": spec.arch,
            "family": subject.family,
            "parameters": spec.parameters,
            "image_size": spec.image_size,
            "source": spec.source,
            "subset": spec.subset,
            "subset_count": spec.subset_count,
            "seed": spec.seed,
            "training": describe_training(spec),
            "metrics": spec.metrics,
            "layers": list(subject.layers),
        }

    def _images(self) -> dict[str, Any]:
        study = self.findings.study
        return {
            "count": len(study.images),
            "digest": self.images_digest,
            "source": self.source,
            "class_names": list(study.class_names),
            "shown": list(study.shown),
        }

    def _analysis(self, name: str) -> dict[str, Any]:
        from zoo.analyses import load_analysis

        result, about = self.results[name], load_analysis(name).ABOUT
        return {
            "name": name,
            "title": about.title,
            "shows": about.shows,
            "reading": about.reading,
            "source": about.source,
            "settings": list(about.settings),
            "captions": dict(about.captions),
            "images": result.images or len(self.findings.study.images),
            "metrics": {k: v for k, v in result.metrics.items() if math.isfinite(v)},
            "notes": list(result.notes),
            "figures": [],
            "arrays": f"arrays/{name}.npz",
            "dims": {k: list(a.dims) for k, a in result.arrays.items()},
            "units": {k: a.unit for k, a in result.arrays.items() if a.unit},
            "labels": {k: list(v) for k, v in result.labels.items()},
            "scales": {k: dataclasses.asdict(v) for k, v in result.scales.items()},
        }


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
