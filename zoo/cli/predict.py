"""`zoo predict`: what a model says of images in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_note, print_table
from zoo.cli.progress import progress
from zoo.config import CLASSES
from zoo.config.mapping import Range
from zoo.errors import BAD_INPUT, UserError

if TYPE_CHECKING:
    from zoo.models.files import LoadedModel
    from zoo.progress import OnProgress


@click.command()
@click.argument("reference")
@click.argument("images", nargs=-1, required=True, type=options.UserPath())
@click.option(
    "--top",
    type=options.within(Range(1, CLASSES.high)),
    default=5,
    show_default=True,
    help="How many classes to name, most likely first.",
)
@options.device
@options.as_json
def command(reference: str, images: tuple[Path, ...], top: int, device: str, as_json: bool) -> None:
    """Classify images, given as files or folders.

    \b
    REFERENCE is NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/…, timm:NAME
    or a folder.

    An image that cannot be read is named on stderr and the exit status is 2; the others are
    classified all the same.

    \b
    Examples:
      zoo predict vit-small cat.jpg
      zoo predict timm:resnet18.a1_in1k photos/ --top 1
      zoo predict ./vit-small photos/ --json | jq '.[].classes[0].name'
    """
    from zoo.data.image_files import find_images, other_files, warn_left_out
    from zoo.device import parse_device
    from zoo.registry.resolve import load
    from zoo.study.answers import name_if_varying

    files = [file for path in images for file in find_images(path)]
    for path in images:
        warn_left_out(path, other_files(path))
    model = load(reference)
    notes = name_if_varying(model.name, model.module, model.spec)  # in doubles, which a CPU has
    model.module.to(parse_device(device, doubles=False))
    with progress("predict") as on_progress:
        predicted, unread = _predict(model, files, top, on_progress)
    if top > (classes := len(model.spec.class_names)):
        print_note(f"--top {top}: there are {classes} classes; all are named")
    for note in notes:
        print_note(note)
    if as_json:
        print_json(predicted)
    else:
        rows = [
            (each["image"], found["name"], round(found["probability"], 4))
            for each in predicted
            for found in each["classes"]
        ]
        print_table(("image", "class", "probability"), rows)
    for problem in unread:
        click.echo(f"Error: {problem}", err=True)
    if unread:
        raise SystemExit(BAD_INPUT)


def _predict(
    model: LoadedModel, files: list[Path], top: int, on_progress: OnProgress
) -> tuple[list[dict[str, Any]], list[str]]:
    from zoo.data.image_files import read_image
    from zoo.models.predict import BATCH, probabilities

    predicted, unread = [], []
    for start in range(0, len(files), BATCH):
        read = {}
        for file in files[start : start + BATCH]:
            try:
                read[file] = read_image(file)
            except UserError as error:
                unread.append(str(error))
        rows = probabilities(model, list(read.values()))
        for file, row in zip(read, rows, strict=True):
            likeliest = (-row).argsort(kind="stable")[:top]
            classes = [
                {"name": model.spec.class_names[i], "probability": float(row[i])} for i in likeliest
            ]
            predicted.append({"image": str(file), "classes": classes})
        on_progress(start + len(read), len(files), "images")
    return predicted, unread
