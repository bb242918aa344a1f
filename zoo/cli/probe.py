"""`zoo probe`: what a linear classifier reads off each layer of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import is_quiet, print_json, print_table, rounded
from zoo.cli.progress import progress
from zoo.config import COUNT, Settings
from zoo.config.mapping import Range
from zoo.errors import UserError, unknown
from zoo.files import find_root


@click.command()
@click.argument("reference")
@click.option(
    "--data-root",
    type=options.UserPath(),
    help="Folder of the subsets [default: data/subsets].",
)
@click.option(
    "--train", "train_name", default="small", show_default=True, help="The subset to fit probes on."
)
@click.option(
    "--few-shot",
    type=options.within(Range(2, COUNT.high)),
    help="Images per class in the few-shot probes [default: 10, or half of those of "
    "the rarest class where it has fewer than 20].",
)
@options.layers
@options.batch_size
@options.seed
@options.device
@click.option(
    "--out",
    type=options.UserPath(),
    help="Folder for the table and the figure [default: reports/probe-NAME].",
)
@options.as_json
def command(
    reference: str,
    data_root: Path | None,
    train_name: str,
    few_shot: int | None,
    layers: str,
    batch_size: int,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Fit a linear probe at every layer of a model and test it on the test split.

    \b
    REFERENCE is NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/…, timm:NAME
    or a folder.

    A probe is a linear classifier (ridge least squares) on a layer's output: its class token, and
    its mean over places. It is fitted on all images of the subset, and on a few of each class.
    Beside them stand two baselines: probes of raw pixels, and of the same network untrained, where
    that is known.

    \b
    Examples:
      zoo probe vit-small
      zoo probe resnet18-full --train full --few-shot 5
    """
    from zoo.data.subsets import load_subset
    from zoo.device import parse_device
    from zoo.experiments.probing_report import FOLDER
    from zoo.figures.names import file_name
    from zoo.files.folders import check_replaceable, replacing_folder
    from zoo.registry.resolve import load

    root = data_root or find_root() / "data" / "subsets"
    _check_subset(root, train_name)
    train, test = load_subset(root / train_name), load_subset(root / "test")
    model = load(reference)
    device = parse_device(device)
    folder = out or find_root() / "reports" / f"probe-{file_name(model.name)}"
    check_replaceable(folder, FOLDER)

    from zoo.experiments.probing import default_few_shot, probe_model
    from zoo.experiments.probing_report import save

    few_shot = few_shot or default_few_shot(train)
    with progress("probe") as on_progress:
        result = probe_model(
            model,
            train,
            test,
            few_shot=few_shot,
            layers=layers,
            settings=Settings(batch_size=batch_size, seed=seed),
            device=device,
            on_progress=on_progress,
        )
    with replacing_folder(folder, FOLDER) as new:
        report = save(result, new, model, train, test, few_shot=few_shot, seed=seed)
    if as_json:
        print_json(report)
    elif is_quiet():
        click.echo(folder / "probe.png")
    else:
        _print_table(report, folder)


def _check_subset(root: Path, name: str) -> None:
    from zoo.data.build import HELD_OUT

    if name in HELD_OUT:
        raise UserError(
            f"--train {name}: probes fitted on a held-out split say nothing about new "
            "images; name a subset of the training images"
        )
    if not root.is_dir():
        raise UserError(f"no subsets in {root}: build them with: dvc repro subset")
    subsets = {path.parent.name for path in root.glob("*/subset.json")} - set(HELD_OUT)
    if name not in subsets:
        raise unknown(f"subset in {root}:", name, subsets)


def _print_table(report: dict[str, Any], folder: Path) -> None:
    from zoo.experiments.probing import PIXELS
    from zoo.experiments.probing_report import UNTRAINED

    images, shots = report["images"], report["few_shot"]
    click.echo(
        f"{report['model']['name']}: accuracy of linear probes on {images['test']:,} test images, "
        f"fitted on {images['fit']:,} of {report['train']['name']} and on {shots} a class; "
        f"most common class {_metric(report, 'chance'):.3f}\n"
    )
    poolings = list(dict.fromkeys(row["pooling"] for row in report["layers"]))
    table: dict[str, dict[tuple[str, str], float | None]] = {}
    for row in report["layers"]:
        for kind in ("all", "few"):
            table.setdefault(row["layer"], {})[kind, row["pooling"]] = row[kind]
    columns = [(kind, pooling) for kind in ("all", "few") for pooling in poolings]
    names = [
        f"{pooling}, {f'{shots}-shot' if kind == 'few' else kind}" for kind, pooling in columns
    ]
    print_table(
        ("layer", *names),
        [(layer, *(rounded(values[c]) for c in columns)) for layer, values in table.items()],
        droppable_columns=[name for name in reversed(names) if name.startswith(UNTRAINED)],
    )
    pixels = [_metric(report, f"pixels_{few}accuracy") for few in ("", "few_shot_")]
    if None not in pixels:
        click.echo(
            f"{PIXELS}: {rounded(pixels[0])} fitted on all, {rounded(pixels[1])} {shots}-shot"
        )
    for note in report["notes"]:
        click.echo(note)
    click.echo(f"\nfigure  {folder / 'probe.png'}")
    click.echo(f"table   {folder / 'probe.csv'}")


def _metric(report: dict[str, Any], measure: str) -> float | None:
    return next((m["value"] for m in report["metrics"] if m["measure"] == measure), None)
