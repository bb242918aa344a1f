"""`zoo table`: accuracy of models by datasets, as a paper prints it."""

from __future__ import annotations

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_table
from zoo.files import csv_text


@click.command()
@options.query
@click.option("--latex", "form", flag_value="latex", help="Print LaTeX (booktabs).")
@click.option("--md", "form", flag_value="md", help="Print Markdown.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, a line per model and dataset.")
@options.as_json
def command(query: str, form: str | None, as_json: bool) -> None:
    """Print test accuracy by model and dataset, the mean over seeds ± standard deviation.

    The latest version of each model and seed counts; experiments do not. Numbers are per cent. CSV
    and JSON hold shares instead, with the deviation and the number of seeds.

    \b
    Examples:
      zoo table
      zoo table --latex > accuracy.tex
      zoo table --csv --filter 'source=cifar10'
    """
    from zoo.registry.filters import choose
    from zoo.registry.listing import list_versions
    from zoo.registry.store import open_store, show_uri
    from zoo.registry.table import accuracy_table, written

    store = open_store(create=False)
    found = accuracy_table(choose(list_versions(store), query=query))
    if as_json:
        rows = found.to_dict(orient="records")
        alone = {"deviation": None}  # one seed deviates from nothing
        print_json([row if row["seeds"] > 1 else row | alone for row in rows])
        return
    if found.empty:
        click.echo(f"No version with a test accuracy in {show_uri(store)}.", err=True)
        return
    wide = written(found)
    if form == "csv":
        click.echo(csv_text(found.to_dict(orient="records")), nl=False)
    elif form == "latex":
        latex = wide.rename_axis(columns=None).reset_index()
        text = latex.to_latex(index=False, escape=True)
        click.echo(text.replace(" ± ", " $\\pm$ "), nl=False)
    elif form == "md":
        names = ["model", *wide.columns]
        lines = [names, ["---", *["---:"] * len(wide.columns)], *wide.reset_index().values.tolist()]
        for line in lines:
            click.echo(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |")
    else:
        print_table(["model", *wide.columns], wide.reset_index().values.tolist())
