"""The example runs as it stands, and shows what it says."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import zoo

NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_networks.ipynb"
FOREIGN = """
import sys
print(sorted({"mlflow", "dvc"} & {name.partition(".")[0] for name in sys.modules}))
"""


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    """What a cell wrote and what its value shows as text."""
    parts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "".join(parts)


def output_of(notebook, source):
    """The only code cell with a text in its source."""
    (found,) = (cell for cell in code_cells(notebook) if source in cell.source)
    return found


def check_outputs(notebook):
    summary = printed(output_of(notebook, "result.summary()"))
    assert re.match(
        r"(small-cnn is more accurate than small-vit|No detectable difference)", summary
    )
    tables = output_of(notebook, "result.to_frame()").outputs
    table = "".join(out.get("data", {}).get("text/html", "") for out in tables)
    row = "".join(rf"<td>{cell}</td>\s*" for cell in ("accuracy", "accuracy", r"small-\w+", ""))
    accuracies = re.findall(row + r"<td>(\d\.\d+)", table)
    assert len(accuracies) == 2
    assert min(map(float, accuracies)) > 0.7  # chance is 0.1
    claims = printed(output_of(notebook, "verdict.verdict"))
    assert re.search(r"^Z-accuracy +(supported|undecided|not supported) ", claims, re.MULTILINE)
    (figure,) = output_of(notebook, 'result.plot("cka")').outputs
    assert "image/png" in figure.data
    (shown,) = code_cells(notebook)[-1].outputs
    assert shown.data["text/html"].startswith("<iframe srcdoc=")
    assert ' sandbox="allow-scripts ' in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("Comparison: small-cnn is more accurate")


def test_the_notebook_is_kept_executed_and_small():
    notebook = nbformat.read(NOTEBOOK, 4)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 1_500_000
    streams = [out for cell in code_cells(notebook) for out in cell.outputs if "name" in out]
    assert {out.name for out in streams} == {"stdout"}
    check_outputs(notebook)


@pytest.mark.slow
def test_the_notebook_runs_without_mlflow_and_dvc(tmp_path):
    notebook = nbformat.read(NOTEBOOK, 4)
    *cells, shown = notebook.cells
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    notebook.cells = [*cells, nbformat.v4.new_code_cell(FOREIGN), shown]
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}})
    client.execute()
    check_outputs(notebook)
    assert printed(output_of(notebook, FOREIGN)).strip() == "[]"
    assert (tmp_path / "report" / "report.html").stat().st_size > 100_000
    cka = zoo.open_results(tmp_path / "report")["cka"]["cka"]
    assert zoo.select(cka, "small-vit", "small-cnn").shape == (5, 5)
