"""`zoo evaluate`: how often models are right, and whether they know it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.cli.output import interval_text, print_json, print_note, print_table, rounded
from zoo.cli.progress import progress
from zoo.config import COMPARED_COUNT, Settings
from zoo.files import find_root

if TYPE_CHECKING:
    from zoo.experiments.evaluation import Evaluation

# The table's measures, and the names of their columns.
COLUMNS = {
    "accuracy": "accuracy",
    "likelihood": "log-loss",
    "error": "calibration error",
    "error_by_chance": "by chance",
    "temperature": "temperature",
}


@click.command()
@click.argument("references", nargs=-1, required=True)
@click.option(
    "--data",
    type=options.UserPath(),
    help="A folder of classes with images in them, or a subset's [default: the images stored "
    "with the models].",
)
@click.option(
    "--images",
    type=options.within(COMPARED_COUNT),
    help="How many images, evenly over the classes of a folder [default: all].",
)
@options.batch_size
@options.device
@options.as_json
def command(
    references: tuple[str, ...],
    data: Path | None,
    images: int | None,
    batch_size: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure accuracy and calibration of one or more models, without a comparison.

    \b
    REFERENCES are NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/…, timm:NAME
    or a folder. A folder of images is <class>/<image>, or test/<class>/<image>; its classes are
    found among the model's own by name, so it may show fewer than the model knows.

    Accuracy has a 95 % interval. The calibration error is the mean gap between confidence and
    accuracy; `by chance` is what a calibrated network would have on these images. The temperature
    is the best-fitting one. A note says how many images of --data a model was trained on, if the
    project has its subset.

    \b
    Examples:
      zoo evaluate vit-small
      zoo evaluate vit-small resnet18-small --data photos/
      zoo evaluate timm:resnet18.a1_in1k --data imagenet-val/ --images 5000 --json
    """
    from zoo.data.trained_on import SUBSETS, find_subset
    from zoo.device import parse_device
    from zoo.experiments.evaluation import evaluate
    from zoo.registry.compare import unique_names
    from zoo.registry.images import labelled_images
    from zoo.registry.references import parse
    from zoo.registry.resolve import load_resolved, resolve
    from zoo.registry.store import open_store

    registered = any(parse(reference).is_registered for reference in references)
    store = open_store(create=False) if registered else None
    models = [resolve(store, reference) for reference in references]
    split, names = labelled_images(store, models, data, images)
    subsets = (store.root if store else find_root()) / SUBSETS
    found = []
    for model, name in zip(models, unique_names(store, models), strict=True):
        with progress(f"evaluate {name}") as on_progress:
            loaded = load_resolved(store, model, name=name)
            # Of images stored with models, none was trained on.
            known = find_subset(subsets, loaded.spec.subset_digest) if data else None
            found.append(
                evaluate(
                    loaded,
                    split,
                    names,
                    settings=Settings(batch_size=batch_size),
                    device=parse_device(device),
                    trained_on=known,
                    on_progress=on_progress,
                )
            )
    if as_json:
        print_json([_as_json(each) for each in found])
        return
    _print(found)


def _as_json(found: Evaluation) -> dict[str, Any]:
    import math

    metrics = [
        {
            "measure": metric.measure,
            "value": metric.value,
            **{k: v for k in ("low", "high") if math.isfinite(v := getattr(metric, k))},
        }
        for metric in found.metrics
    ]
    return {
        "model": found.name,
        "images": len(found.right),
        "metrics": metrics,
        "notes": list(found.notes),
    }


def _print(found: Sequence[Evaluation]) -> None:
    from itertools import combinations

    from zoo.measures.intervals import paired_difference

    rows = []
    for each in found:
        values = [each.find(measure) for measure in COLUMNS]
        accuracy, *others = [rounded(m.value if m else None) for m in values]
        ends = values[0]
        between = interval_text(ends.low, ends.high) if ends else ""
        rows.append((each.name, accuracy, between, *others))
    first, *rest = COLUMNS.values()
    print_table(("model", first, "95 % interval", *rest), rows)
    click.echo("")
    for a, b in combinations(found, 2):
        gap = (100 * value for value in paired_difference(a.right, b.right))
        points, low, high = (f"{value:+.1f}".replace("-", "−") for value in gap)
        click.echo(f"{a.name} minus {b.name}: {points} percentage points ({low} to {high})")
    click.echo(f"{len(found[0].right):,} images")
    for note in dict.fromkeys(note for each in found for note in each.notes):
        print_note(note)
