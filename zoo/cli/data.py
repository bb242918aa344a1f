"""`zoo data`: the images, before subsets are made from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import everywhere, print_json, print_pairs, print_table
from zoo.cli.progress import progress
from zoo.config import DataConfig, load_params
from zoo.errors import UserError, counted
from zoo.files import find_root, is_project, user_path

if TYPE_CHECKING:
    from zoo.data.check import DataCheck

NOT_WELL = 3
FEWEST = 8  # test images with which CKA has intervals


@click.group()
def command() -> None:
    """Look at images before subsets are made from them.

    \b
    Example:
      zoo data check ~/pictures/flowers
    """


@command.command()
@click.argument("folder", required=False, type=options.UserPath(exists=True, file_okay=False))
@options.as_json
def check(folder: Path | None, as_json: bool) -> None:
    """Read every image, and list those that are damaged, odd or do not fit.

    FOLDER holds train/<class>/<image> and test/<class>/<image>, or <class>/<image>, of which
    a fifth of every class is kept for testing. Without it, the images of params.yaml are read and
    its subsets are checked against them. Counts, sizes and subsets that would fit are printed.
    Nothing is changed.

    \b
    wrong     folders, classes or sizes of subsets that cannot be used
    damaged   images that cannot be read
    leak      test images whose pixels are those of a training image
    odd       duplicates, and images smaller than needed or longer than 2:1
    unused    files that are not images, or images without a class

    \b
    Exit status: 0 all is well, 3 something is wrong, damaged or a leak.

    \b
    Examples:
      zoo data check
      zoo data check ~/pictures/flowers --json | jq -r '.findings[] | select(.kind=="odd") | .what'
    """
    from zoo.data.check import check_data
    from zoo.data.image_files import IMAGE_SUFFIXES
    from zoo.project.new_study import IMAGE_SIZE, shipped_params

    root = find_root()
    if folder is None and not is_project(root):
        raise UserError(f"no params.yaml in {root}: name the folder of images to check")
    inside = is_project(root)
    params = load_params(root / "params.yaml") if inside else shipped_params()
    data = params.data
    if folder is not None:
        side = data.image_size if inside else IMAGE_SIZE
        suffixes = {path.suffix.lower() for path in folder.rglob("*")}
        shards = ".tar" in suffixes and suffixes.isdisjoint(IMAGE_SUFFIXES)
        source = "webdataset" if shards else "imagefolder"
        data = dataclasses.replace(data, source=source, root=str(folder), image_size=side)
    where = user_path(data.root, root if folder is None else Path())
    with progress("check") as on_progress:
        found = check_data(data, where, params.subsets if folder is None else {}, on_progress)
    facts = _facts(data, where, found)
    findings = [vars(finding) for finding in found.findings]
    if as_json:
        parts = found.parts and vars(found.parts)
        print_json({"facts": facts, "parts": parts, "findings": findings, "well": found.well})
    else:
        print_table(("finding", "what", "why"), [tuple(f.values()) for f in findings])
        if found.parts:
            rows = [(name, *counts) for name, counts in found.parts.classes.items()]
            print_table(("class", "train", "test"), rows)
        print_pairs(facts)
        click.echo(counted(len(findings), "finding") if findings else "all is well")
    if not found.well:
        click.get_current_context().exit(NOT_WELL)


check.params += everywhere()


def _facts(data: DataConfig, where: Path, found: DataCheck) -> dict[str, Any]:
    """Describe the images and what will be made of them."""
    import numpy as np

    own = {"imagefolder": "images", "webdataset": "shards"}
    facts = {"source": f"{own[data.source]} in {where}" if data.source in own else data.source}
    if len(found.sizes):
        heights, widths = found.sizes.T
        sides = found.sizes.min(axis=1)
        kept = sides / found.sizes.max(axis=1)
        facts["pixels"] = (
            f"{_spread(widths)} wide, {_spread(heights)} high; "
            f"{np.mean(sides < data.image_size):.0%} are enlarged"
        )
        facts["crop"] = (
            f"to {data.image_size}×{data.image_size}: scaled by the shorter side, then the centre "
            f"square, which holds {np.median(kept):.0%} of a typical image"
        )
    if (parts := found.parts) is None:
        return facts
    facts["images"] = (
        f"{parts.train:,} to train on, {parts.validation:,} for validation, {parts.test:,} to test"
    )
    facts["test"] = (
        f"a fifth of every class, drawn with seed {data.seed}: no test split comes with the images"
        if parts.drawn
        else "comes with the images"
    )
    counts = [train for train, _ in parts.classes.values()]
    if max(counts) >= 2 * min(counts):
        facts["balance"] = (
            f"{min(counts):,} to {max(counts):,} training images a class: `all` is not balanced"
        )
    facts["subsets"] = "would fit: " + ", ".join(f"{k} {v}" for k, v in parts.proposed.items())
    if parts.test < FEWEST:
        facts["intervals"] = f"none for CKA: they need {FEWEST} test images"
    return facts


def _spread(pixels: Any) -> str:
    low, high = int(pixels.min()), int(pixels.max())
    return f"{low}" if low == high else f"{low} to {high}"
