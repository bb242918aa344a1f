"""`zoo doctor`: what is wrong, and how to fix it."""

from __future__ import annotations

import dataclasses
from functools import partial

import click

from zoo.cli import options
from zoo.cli.output import is_quiet, print_json
from zoo.files import find_root, is_project


@click.command()
@click.option("--clean", is_flag=True, help="Remove what interrupted processes left.")
@options.as_json
def command(clean: bool, as_json: bool) -> None:
    """Check the installation and the project: one line each, and how to fix what is wrong.

    Checks packages, device, disk, store, settings, data, DVC's state, and what interrupted
    processes left behind. --clean removes only these leftovers; nothing else is ever changed.
    Outside a project, only the installation is checked.

    \b
    Exit status: 0 nothing is wrong (there may be warnings), 2 something is.

    \b
    Examples:
      zoo doctor
      zoo doctor --clean
      zoo doctor --json | jq '.[] | select(.status != "ok")'
    """
    from zoo.project import doctor
    from zoo.project.renewal import check_pipeline

    root = find_root().resolve()
    checks = [doctor.check_packages, doctor.check_torchvision, doctor.check_device]
    checks += [partial(check, root) for check in (doctor.check_disk, doctor.check_store)]
    if is_project(root):
        own = (doctor.check_params, doctor.check_data, doctor.check_dvc, check_pipeline)
        checks += [partial(check, root) for check in own]
        checks.append(partial(doctor.check_leftovers, root, clean=clean))
    found = []
    for check in doctor.examine(checks):
        found.append(check)
        if not as_json and not (is_quiet() and check.status == "ok"):
            click.echo(f"{check.status:8} {check.name:12} {check.found}")
            if check.fix:
                click.echo(f"{'':21} → {check.fix}")
    if as_json:
        print_json([dataclasses.asdict(check) for check in found])
    elif not is_project(root):
        lacking = f"none in {root} (no params.yaml and dvc.yaml)"
        click.echo(f"{'':8} {'project':12} {lacking}: only the installation was examined")
    click.get_current_context().exit(2 if any(c.status == "wrong" for c in found) else 0)
