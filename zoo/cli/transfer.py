"""`zoo transfer`: a registered model on another source of images."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import command_line, is_quiet, print_json, print_table, rounded
from zoo.cli.progress import progress
from zoo.config import BATCH, COUNT, EPOCHS, LEARNING_RATE, TrainConfig, load_params
from zoo.errors import UserError
from zoo.files import find_root, is_project, user_path


@click.command()
@click.argument("reference")
@click.option("--source", required=True, help="digits, cifar10, cifar100, svhn, imagefolder, ….")
@click.option(
    "--root",
    type=options.UserPath(),
    help="Folder of the source's files; downloads go there [default: data.root of params.yaml "
    "where data.source is the same, else data/raw].",
)
@click.option(
    "--subset", type=options.within(COUNT), help="How many images to train on [default: all]."
)
@click.option("--epochs", type=options.within(EPOCHS), default=10, show_default=True)
@click.option("--freeze", is_flag=True, help="Train only the new classifier.")
@click.option("--name", help="Name of the new model [default: NAME-on-SOURCE].")
@click.option("--batch-size", type=options.within(BATCH), default=50, show_default=True)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, LEARNING_RATE.high, min_open=True),
    help="Adam's, with cosine decay [default: 0.0003; 0.01 with --freeze].",
)
@options.seed
@options.device
@click.option(
    "--out",
    type=options.UserPath(),
    help="Folder for the model and the report [default: reports/transfer-NAME-on-SOURCE].",
)
@options.as_json
def command(
    reference: str,
    source: str,
    root: Path | None,
    subset: int | None,
    epochs: int,
    freeze: bool,
    name: str | None,
    batch_size: int,
    learning_rate: float | None,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a model on another source: how good does it get, and what does it keep?

    \b
    REFERENCE is NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/…, timm:NAME
    or a folder.

    Its classifier is replaced and the network is trained further. The report has the accuracy of
    a linear probe before and after and of the network after, and the CKA of each layer before
    training with the same layer after it. `zoo register` takes the new model's folder.

    \b
    Examples:
      zoo transfer vit-full --source fashion_mnist --subset 1000
      zoo transfer timm:vit_tiny_patch16_224 --source imagefolder --root photos --freeze
    """
    from zoo.device import parse_device
    from zoo.experiments.transfer import prepare_data, transfer
    from zoo.experiments.transfer_report import FOLDER, save
    from zoo.files.folders import check_replaceable, replacing_folder
    from zoo.registry.references import check_name
    from zoo.registry.resolve import load

    device = parse_device(device)
    images = _load_source(source, root)
    model = load(reference)
    name = check_name(name or f"{model.spec.name}-on-{source}")
    folder = out or find_root() / "reports" / f"transfer-{name}"
    check_replaceable(folder, FOLDER)
    config = TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate or (0.01 if freeze else 0.0003),
    )
    # A folder appears at the end, complete; until then all is in a hidden one beside it.
    with replacing_folder(folder, FOLDER) as new, progress("transfer") as on_progress:
        size = model.spec.image_size
        prepare_data(images, new / "data", image_size=size, count=subset, seed=seed)
        done = transfer(
            model,
            new / "data",
            config,
            name=name,
            freeze=freeze,
            seed=seed,
            device=device,
            on_progress=on_progress,
        )
        report = save(done, new, command=command_line())
    if as_json:
        print_json(report)
    elif is_quiet():
        click.echo(folder / "report.json")
    else:
        _print_summary(report, folder)


def _load_source(name: str, root: Path | None) -> Any:
    from zoo.data.sources import load_source

    folder = root or _usual_root(name)
    try:
        return load_source(name, folder)
    except UserError as error:
        raise UserError(f"{error} (--source {name} --root {folder})") from None


def _usual_root(source: str) -> Path:
    root = find_root()
    if not is_project(root):
        return root / "data" / "raw"
    try:
        data = load_params(root / "params.yaml").data
    except UserError as error:
        raise UserError(f"{error}; correct it, or say where the images are by --root") from None
    return user_path(data.root, root) if data.source == source else root / "data" / "raw"


def _print_summary(report: dict[str, Any], folder: Path) -> None:
    accuracy, images = report["accuracy"], report["images"]
    how = "classifier alone" if report["training"]["freeze"] else "fine-tuned"
    click.echo(
        f"{report['before']['name']} on {report['after']['source']}, {how} on "
        f"{images['train']:,} images, seed {report['seed']}; accuracy on {images['test']:,} "
        "test images:\n"
    )
    rows = [
        ("linear probe before", accuracy["probe_before"]),
        ("linear probe after", accuracy["probe_after"]),
        ("network after", accuracy["after"]),
        ("most common class", accuracy["most_common"]),
    ]
    print_table(("", "accuracy"), [(what, rounded(value)) for what, value in rows])
    click.echo(
        "\nCKA of each layer with itself before the transfer, and with an untrained network's:\n"
    )
    print_table(
        ("layer", "kept", "untrained"),
        [(r["layer"], rounded(r["cka"]), rounded(r["untrained"])) for r in report["layers"]],
    )
    for claim in report["claims"]:
        click.echo(f"\n{claim['id']} {claim['verdict']}: {claim['reason']}")
        click.echo(f"{claim['detail']} ({claim['statement']})")
        if before := claim["before"]:
            click.echo(f"before training: {before['detail']}")
    for note in report["notes"]:
        click.echo(note)
    click.echo(f"\nreport    {folder / 'report.json'}")
    click.echo(f"figure    {folder / 'transfer.png'}")
    test = shlex.quote(str(folder / "data" / "test"))
    click.echo(f"register  zoo register {shlex.quote(str(folder / 'model'))} --test {test}")
