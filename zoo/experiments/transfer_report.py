"""What a transfer leaves behind: a model's folder, a report, a table and a figure."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zoo.analyses.same_layer_cka import Line, draw_lines
from zoo.claims import Verdict, decide, measure_claim
from zoo.data.subsets import SUBSET
from zoo.experiments.transfer import Transferred
from zoo.figures import style
from zoo.figures.saving import save_figure
from zoo.files import csv_text, finite, write_json, write_text
from zoo.files.folders import FolderKind
from zoo.measures.linear_cka import LABEL
from zoo.models.files import save_model
from zoo.training.variants import EPOCHS, STEPS, TRAINED

MODEL, REPORT, LAYERS, FIGURE = "model", "report.json", "layers.csv", "transfer"
FOLDER = FolderKind(
    REPORT,
    ("zoo_version", "before", "after"),
    files=(LAYERS, f"{FIGURE}.png", f"{FIGURE}.svg"),
    folders={MODEL: TRAINED, "data": FolderKind(folders={"*": SUBSET})},
)


def save(done: Transferred, folder: Path, *, command: str = "") -> dict[str, Any]:
    """Write `model/`, `report.json`, `layers.csv` and the figure; return the report.

    It says by which `command` it was asked for.
    """
    digest = save_model(folder / MODEL, done.model.module, done.model.spec)
    write_text(folder / MODEL / EPOCHS, csv_text(done.epochs))
    write_text(folder / MODEL / STEPS, csv_text(done.steps))
    report = describe(done, digest=digest, command=command)
    write_json(folder / REPORT, report)
    write_text(folder / LAYERS, csv_text(layer_rows(done)))
    save_figure(draw(done), folder, FIGURE)
    return report


def describe(done: Transferred, *, digest: str, command: str) -> dict[str, Any]:
    """Return everything but weights and history as JSON values."""
    from zoo import __version__

    before, spec = done.before, done.model.spec
    return {
        "zoo_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "before": {
            "name": before.name,
            "uri": before.uri,
            "digest": before.digest,
            "source": before.spec.source,
            "subset": before.spec.subset,
        },
        "after": {"name": done.model.name, "digest": digest, "source": spec.source},
        "images": done.counts,
        "seed": spec.seed,
        "training": spec.training,
        "environment": spec.environment,
        "accuracy": dataclasses.asdict(done.accuracies),
        "metrics": done.metrics,
        "claims": [verdict.as_dict() for verdict in verdicts(done)],
        "layers": layer_rows(done),
        "notes": list(done.notes),
    }


def verdicts(done: Transferred) -> list[Verdict]:
    """Return what the transfer says of the papers' claims."""
    kept, untrained = ([[same.block_draws]] for same in (done.kept, done.untrained))
    name, n = done.model.name, done.counts["test"]
    return decide([measure_claim("R-transfer", (name,), kept, untrained=untrained, n=n)])


def layer_rows(done: Transferred) -> list[dict[str, Any]]:
    """Return one row per layer: CKA before with after, its interval, and the untrained network's.

    What could not be measured is None; the notes say why.
    """
    columns = {
        "cka": done.kept.cka,
        "low": done.kept.low,
        "high": done.kept.high,
        "untrained": done.untrained.cka,
    }
    return [
        {"layer": layer, "block": i in done.kept.blocks}
        | {what: finite(v[i]) for what, v in columns.items()}
        for i, layer in enumerate(done.kept.layers)
    ]


def draw(done: Transferred) -> Figure:
    """Draw what the network after the transfer is compared with: itself before, and untrained."""
    kept, untrained = done.kept, done.untrained
    colour = style.FAMILY_COLOURS[done.family]
    lines = [
        Line("an untrained network", "0.5", ":", untrained.cka, untrained.low, untrained.high),
        Line("the network before the transfer", colour, "-", kept.cka, kept.low, kept.high),
    ]
    how = "classifier alone" if done.model.spec.training.get("freeze") else "fine-tuned"
    names = f"{style.shorten(done.before.name, 24)} on {done.model.spec.source}"
    probe = done.accuracies.probe_before
    accuracy = f"accuracy after {done.accuracies.after:.3f}"
    if probe is not None:
        accuracy = f"linear probe before {probe:.3f}, {accuracy}"
    with style.styled():
        figure = style.new_figure(width=4.6, height=3.4)
        axis = figure.subplots()
        draw_lines(axis, kept.layers, lines, most=34)
        axis.set_ylabel(f"{LABEL}\nwith the network after the transfer")
        axis.set_title(
            f"{names}: {how} on {done.counts['train']:,} images\n"
            f"{accuracy} ({done.counts['test']:,} test images)",
            loc="left",
            fontsize=8,
        )
        figure.legend(loc="outside lower center", ncols=2)
    return figure
