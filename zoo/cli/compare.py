"""`zoo compare`: how do these models see differently?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import (
    command_line,
    interval_text,
    is_quiet,
    print_json,
    print_note,
    print_table,
    print_text,
    rounded,
    warn_of_copy,
)
from zoo.cli.progress import progress
from zoo.config import COMPARED_COUNT, POOLS, Settings, parse_show
from zoo.errors import UserError
from zoo.files import read_json

SHOWN = 3  # newer versions that are named
NUMBERS = ("measure", "of", "value", "95 % interval", "before training")


@click.command()
@click.argument("references", nargs=-1, required=True)
@click.option(
    "--only",
    multiple=True,
    help="Run only these analyses, such as cka,accuracy (see zoo analyses); repeatable.",
)
@click.option("--skip", multiple=True, help="Leave these analyses out; repeatable.")
@click.option(
    "--images",
    type=options.within(COMPARED_COUNT),
    help="How many images [default: all that are stored with the models, at most 2,048; "
    "--data data/subsets/test takes the whole split].",
)
@click.option(
    "--data",
    type=options.UserPath(),
    multiple=True,
    help="Use the images in this folder: a subset, or any pictures. They have labels if each lies "
    "in a folder named after its class. Given twice, the similarity of layers is measured on the "
    "second images too, and the report says how far the maps agree.",
)
@options.batch_size
@options.layers
@click.option(
    "--pool",
    type=click.Choice(POOLS),
    default=Settings.pool,
    show_default=True,
    help="Which part of a layer CKA compares.",
)
@click.option(
    "--show",
    default=Settings.show,
    show_default=True,
    callback=lambda _context, _option, given: (parse_show(given), given)[1],
    help="Which images figures show: apart (those on which the models differ most), classes (the "
    "first of each), class:NAME, only:MODEL (those that only it classifies correctly), or "
    "indices: 3,17.",
)
@click.option(
    "--one-seed",
    is_flag=True,
    help="For a NAME with several seeds, use only the current version.",
)
@click.option("--no-references", is_flag=True, help="Leave out untrained networks and other seeds.")
@options.device
@click.option(
    "--out", type=options.UserPath(), help="Folder for the report [default: reports/A__B]."
)
@click.option("--force", is_flag=True, help="Compute it again, running all networks.")
@options.as_json
def command(
    references: tuple[str, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    images: int | None,
    data: tuple[Path, ...],
    batch_size: int,
    layers: str,
    pool: str,
    show: str,
    one_seed: bool,
    no_references: bool,
    device: str,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compare models: accuracy, similarity of layers, attention, features, the papers' claims.

    \b
    REFERENCES are two or more of: NAME (its current version), NAME/3, NAME@alias, runs:/…,
    models:/…, timm:NAME (published weights) or a folder.

    A NAME alone means all registered seeds of that variant: numbers and claims are then means over
    seeds, figures show the current version. NAME/3 and --one-seed mean one.

    The report is written into a folder and logged to MLflow. Asking for the same comparison
    again finds it instead of computing it. Another comparison of the same models (other --only,
    --images, …) replaces the folder; the first one, asked for again, is fetched from MLflow.

    What accuracy, attention-distance, calibration, cka, differences and similarity need from a
    network is kept in .zoo/cache/passes: another comparison with only these analyses, on the same
    images, does not run it again.

    \b
    Examples:
      zoo compare vit-small resnet18-small
      zoo compare vit-small vit-full --only cka,attention-maps
      zoo compare vit-small@best models/resnet18-small-0 --layers all
      zoo compare vit-small resnet18-small --show only:vit-small
      zoo compare timm:deit_tiny_patch16_224 timm:resnet18 --data ~/pictures --images 100
      zoo compare vit-small resnet18-small --data data/subsets/test --data ~/pictures
    """
    from zoo.analyses import ON_REQUEST, choose_analyses, measured_costs
    from zoo.comparison import PARTS
    from zoo.device import parse_device
    from zoo.figures.names import file_name
    from zoo.processes import joined
    from zoo.registry.compare import compare_registered, unique_names
    from zoo.registry.resolve import resolve
    from zoo.registry.store import open_store

    if len(references) < 2:
        raise UserError(f"expected two or more models to compare, got {len(references)}")
    chosen, left_out = _names(only), _names(skip)
    choose_analyses(chosen, left_out)  # before anything is loaded
    settings = Settings(
        batch_size=batch_size,
        layers=layers,
        pool=pool,
        show=show,
        references=not no_references,
    )
    with joined():
        # First: a store is made only if no model is looked up in it.
        models = [resolve(None, reference) for reference in references]
        store = open_store()
        warn_of_copy(store)
        device = parse_device(device)  # imports torch, so only after models are known to exist
        _tell_newer(store, models)
        folder = out or store.root / "reports" / file_name("__".join(unique_names(store, models)))
        before = _report_in(folder)
        for name in set(chosen) & set(ON_REQUEST):
            print_note(
                f"{name} is slow: about {measured_costs()[name][0]:.2g} times a pass of "
                "these models over 359 images; the progress says how long is left"
            )
        with progress("compare", PARTS) as on_progress:
            done = compare_registered(
                store,
                models,
                folder,
                data=data[0] if data else None,
                others=data[1:],
                count=images,
                only=chosen,
                skip=left_out,
                settings=settings,
                siblings=() if one_seed else None,
                device=device,
                force=force,
                command=command_line(),
                on_progress=on_progress,
            )
        # The pipeline keeps its comparisons in a folder of its own as well.
        by_hand = str(before.get("command")).partition(" ")[0] == "zoo"
        if by_hand and _asked(before) != _asked(done.report):
            print_note(
                f"{folder} held the report of `{before['command']}`; that command brings it "
                "back, and --out keeps two side by side"
            )
        if images and images > (there := done.report["images"]["count"]):
            print_note(f"--images {images:,}: there are {there:,}; all were compared")
        if as_json:
            print_json(done.report)
        elif is_quiet():
            click.echo(folder / "report.html")
        else:
            _print_summary(done, store, models)


def _tell_newer(store: Any, models: Any) -> None:
    """Say which names do not mean their newest version."""
    from zoo.registry.listing import newer_versions
    from zoo.registry.references import parse

    for model in models:
        if not parse(model.reference).is_name:
            continue
        newer = [
            f"{model.label}/{version}" + f" (experiment {experiment})" * bool(experiment)
            for version, experiment in newer_versions(store, model).items()
        ]
        if newer:
            print_note(
                f"{model.label} is version {model.version}, the current one; newer: "
                f"{', '.join(newer[-SHOWN:])}"
            )


def _report_in(folder: Path) -> dict[str, Any]:
    """Return the report that a folder already holds; empty if there is none to be read."""
    try:
        report = read_json(folder / "report.json")
    except (UserError, OSError):
        return {}
    return report if isinstance(report, dict) else {}


def _names(given: Sequence[str]) -> list[str]:
    return [name.strip() for name in ",".join(given).split(",") if name.strip()]


def _asked(report: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what was asked for, which does not depend on zoo's version."""
    analyses = [entry.get("name") for entry in report.get("analyses", ())]
    return report.get("settings"), analyses, report.get("images", {}).get("count")


def _print_summary(done: Any, store: Any, models: Any) -> None:
    from zoo.registry.ui import comparison_link, side_by_side_link

    report = done.report
    if done.found:
        click.echo(f"Found: compared on {report['created'][:10]} (--force computes it again).\n")
    print_text(report["summary"])
    for caution in report["cautions"]:
        print_text(caution)
    if report["contrasts"]:
        order = ", the strongest first" if any(of["analysis"] for of in report["contrasts"]) else ""
        click.echo(f"\nWhat they do differently{order}:")
    for said in report["contrasts"]:
        print_text(f"- {said['text']}")
    click.echo("")
    print_table(NUMBERS, [tuple(row.values()) for row in report["numbers"]])
    click.echo("")
    _print_claims(report)
    for name, reason in report["not_applicable"].items():
        click.echo(f"{name} did not apply: {reason}")
    taken = ", ".join(model.uri.removeprefix("models:/") for model in models)
    click.echo(f"\nmodels   {taken}")
    click.echo(f"report   {done.folder / 'report.html'}")
    click.echo(f"MLflow   {comparison_link(store, done.run.info.run_id)}")
    if runs := side_by_side_link(store, models):  # two or more of them have training runs
        click.echo(f"runs     {runs}")
    if not store.is_server:
        click.echo("         (start the pages with: zoo ui)")


def _print_claims(report: Mapping[str, Any]) -> None:
    """Print the claims that were tested, and why the others were not."""
    from zoo.claims.base import format_p, held_in

    tested = [claim for claim in report["claims"] if claim["value"] is not None]
    # The models of a row are left out only if each claim is tested once.
    many = len(report["models"]) > 2 or len({claim["id"] for claim in tested}) < len(tested)
    seeds = any(claim["seeds"] for claim in tested)
    if tested:
        print_table(
            (
                *("claim", "verdict", "value", "95 % interval", "untrained", "p (Holm)"),
                *["holds in", "interval over"] * seeds,
                *["models"] * many,
                "statement",
            ),
            [
                (
                    *(claim["id"], claim["verdict"], rounded(claim["value"])),
                    claim["counted"] or interval_text(claim["low"], claim["high"]),
                    rounded(claim["before"]["value"] if claim["before"] else None),
                    format_p(claim["p_holm"]),
                    *[held_in(claim), claim["over"]] * seeds,
                    *[", ".join(claim["models"])] * many,
                    claim["statement"],
                )
                for claim in tested
            ],
        )
    ran = {entry["name"] for entry in report["analyses"]} | set(report["not_applicable"])
    done = {claim["id"] for claim in tested}
    untested: dict[str, set[str]] = {}
    for claim in report["claims"]:
        if claim["id"] not in done:
            untested.setdefault(_why_untested(claim, ran), set()).add(claim["id"])
    for reason, ids in sorted(untested.items()):
        click.echo(f"{reason}: {', '.join(sorted(ids))}.")


def _why_untested(claim: Mapping[str, Any], ran: Set[str]) -> str:
    from zoo.analyses import ANALYSES, ON_REQUEST

    if claim["analysis"] not in ANALYSES:
        return "Tested by dvc repro effect or zoo transfer"
    if not claim["models"]:
        return "Need other models (see zoo claims)"
    if claim["analysis"] not in ran and claim["analysis"] in ON_REQUEST:
        return f"Tested with --only {claim['analysis']}"
    if claim["analysis"] not in ran:
        return "Left out by --only or --skip"
    return "Could not be told (see the report)"
