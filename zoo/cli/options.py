"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.config import COMPARED_BATCH, COMPARED_COUNT, POINTS, SEED, Settings, check_layers
from zoo.config.mapping import Range
from zoo.files import user_path


class UserPath(click.Path):
    """A path as read by `user_path`: no shell expands the ~ of `--out=~/report`."""

    def __init__(self, **known: Any) -> None:
        super().__init__(path_type=Path, **known)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the path; an empty text, which would mean this folder, is an error."""
        if value == "":
            self.fail("expected a path, got an empty text", param, ctx)
        return super().convert(user_path(value), param, ctx)


def within(limit: Range) -> click.IntRange:
    """Return the type of a whole number in a range."""
    return click.IntRange(int(limit.low), int(limit.high))


device = click.option(
    "--device", default="", help="cpu, cuda, cuda:1 [default: a GPU where there is one]."
)
layers = click.option(
    "--layers",
    default="blocks",
    show_default=True,
    callback=lambda _context, _option, given: check_layers(given),
    help="blocks, all, or a regular expression.",
)
batch_size = click.option(
    "--batch-size",
    type=within(COMPARED_BATCH),
    default=Settings.batch_size,
    show_default=True,
    help="Images in a batch.",
)
seed = click.option("--seed", type=within(SEED), default=0, show_default=True)
query = click.option(
    "--filter", "query", default="", help="Only versions that match; see zoo list."
)
at = click.option(
    "--at",
    type=click.Choice(POINTS),
    default="1",
    show_default=True,
    help="Where the models are compared: the relative depth of a block (0: stem), the features "
    "that the classifier reads, or the logits.",
)
fingerprint_data = click.option(
    "--data",
    type=UserPath(),
    help="Use the images in this folder: a subset, or any pictures [default: those stored "
    "with the models].",
)
fingerprint_images = click.option(
    "--images",
    type=within(COMPARED_COUNT),
    help="How many images, evenly over the classes [default: 512].",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
