"""`zoo import`: a model from elsewhere into the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_note, warn_of_copy
from zoo.config import CLASSES, SIDE
from zoo.errors import UserError


@click.command("import")
@click.argument("source")
@click.option("--name", required=True, help="Its name in the registry.")
@click.option(
    "--weights",
    type=options.UserPath(exists=True, dir_okay=False),
    help="A file of weights instead of the published ones, whatever its suffix: safetensors, or "
    "a state_dict or checkpoint that torch.save made.",
)
@click.option("--key", default="", help="Where the weights are in that file, such as model_ema.")
@click.option("--prefix", default="", help="Prefix of their names, such as backbone.")
@click.option(
    "--no-head",
    "--ignore-head",
    is_flag=True,
    help="No classifier: the file has none, or it is to be left out.",
)
@click.option(
    "--image-size", type=options.within(SIDE), help="Pixels per side [default: the source's]."
)
@click.option("--classes", help="How many, or a file with one name per line; 0: no classifier.")
@click.option("--mean", help="Per channel, for pixels from 0 to 1, such as 0.485,0.456,0.406.")
@click.option("--std", help="Per channel, such as 0.229,0.224,0.225.")
@click.option(
    "--kwarg", "kwargs", multiple=True, help="An argument of the network, KEY=VALUE; repeatable."
)
@options.as_json
def command(
    source: str,
    name: str,
    weights: Path | None,
    key: str,
    prefix: str,
    no_head: bool,
    image_size: int | None,
    classes: str | None,
    mean: str | None,
    std: str | None,
    kwargs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Import a model with its weights, to be compared and served like any other.

    \b
    SOURCE is one of
      timm:NAME                 a model of timm, with published weights or --weights
      local-dir:FOLDER          a folder with timm's config.json and weights
      torchvision:NAME          a classifier of torchvision, likewise
      hf:NAME                   a vision model of Hugging Face's hub, or a folder of one
      package.module:factory    a function of your own that returns a torch.nn.Module,
                                with weights of its own or with --weights
    NAME may include the weights (resnet18.a1_in1k, resnet18.IMAGENET1K_V1). Nothing is
    downloaded if the weights are given or in the local cache.

    Preprocessing and class names are the published ones. Your own factory gets `num_classes` and
    `image_size` if it takes them; once it has made a network, it is trusted in this project
    with these arguments. ZOO_TRUST names those that are trusted with any.

    \b
    Examples:
      zoo import timm:vit_small_patch16_224.augreg_in21k --name vit-in21k
      zoo import torchvision:resnet18 --name resnet18-imagenet --weights resnet18.pth
      zoo import timm:vit_tiny_patch16_224 --name mine --weights last.ckpt --classes 10
      zoo import mypkg.nets:make_net --name mine --weights mine.pt --image-size 32
      zoo import hf:facebook/dinov2-small --name dinov2
      zoo import mypkg.nets:load --name mine --image-size 224
    """
    import dataclasses

    from zoo.models.imported import ImportOptions
    from zoo.registry.references import check_name
    from zoo.registry.register import import_registered
    from zoo.registry.store import open_store

    check_name(name)
    given = ImportOptions(
        weights=weights,
        key=key,
        prefix=prefix,
        no_head=no_head,
        image_size=image_size,
        class_names=_class_names(classes),
        mean=_channels("--mean", mean),
        std=_channels("--std", std),
        kwargs=_kwargs(kwargs),
    )
    store = open_store()
    warn_of_copy(store)
    done, notes = import_registered(store, source, name, given)
    for note in notes:
        print_note(note)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    state = "registered" if done.created else "was there"
    click.echo(f"{done.name}/{done.version} {state} (sha256 {done.digest[:12]})")


def _class_names(given: str | None) -> list[str] | None:
    from zoo.models.pretrained import numbered

    if given is None:
        return None
    if given.isdecimal():
        if len(given) > 9 or int(given) not in CLASSES:
            raise UserError(f"--classes: expected {CLASSES}, got {given}")
        return numbered(int(given))
    if not Path(given).is_file():
        raise UserError(f"--classes: expected a number or a file of names; got {given!r}")
    try:
        text = Path(given).read_text(encoding="utf-8-sig")  # Windows' editors put a mark first
    except UnicodeDecodeError as error:
        raise UserError(f"--classes: {given} is not UTF-8 text ({error})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _channels(option: str, given: str | None) -> list[float] | None:
    if given is None:
        return None
    try:
        red, green, blue = map(float, given.split(","))
    except ValueError:
        raise UserError(f"{option}: expected three numbers as 0.5,0.5,0.5; got {given!r}") from None
    return [red, green, blue]


def _kwargs(given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    from zoo.config.mapping import parse_yaml

    pairs = [text.partition("=") for text in given]
    if wrong := [key for key, sign, _ in pairs if not (sign and key.isidentifier())]:
        raise UserError(f"--kwarg: expected KEY=VALUE; got {wrong[0]!r}")
    try:
        return {key: parse_yaml(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise UserError(f"--kwarg: {error}") from None
