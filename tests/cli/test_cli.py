"""What a user meets on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from zoo.cli import COMMANDS, cli
from zoo.cli.output import print_table
from zoo.models.files import save_model
from zoo.registry.register import register_all
from zoo.registry.store import open_store

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder as the working folder, with a store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def zoo(project):
    """Run the command line in the project: `zoo("list", "--json")`."""

    def run(*arguments, status=0):
        done = subprocess.run(
            [sys.executable, "-c", "from zoo.cli import main; main()", *arguments],
            cwd=project, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


@pytest.fixture
def registered(project, make_model, digits_folder):
    """Two small models in the registry, with their test images."""
    from zoo.data.subsets import load_subset

    digest = load_subset(digits_folder / "test").info.digest
    folders = []
    for i, name in enumerate(("vit-small", "vit-gap-small")):
        model = make_model(
            name.removesuffix("-small"), name, seed=i, subset="small", source="digits",
            subset_digest="d" * 64, subset_count=40, test_digest=digest,
            metrics={"test/accuracy": 0.5, "validation/accuracy": 0.4 + i / 10},
        )  # fmt: skip
        save_model(project / name, model.module, model.spec)
        folders.append(project / name)
    register_all(folders, test_folder=digits_folder / "test", store=open_store(project))
    return project


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output
    assert f"zoo {name}" in done.output


def test_a_typo_gets_a_suggestion():
    done = CliRunner().invoke(cli, ["comprae"])
    assert done.exit_code == 2
    assert "did you mean 'compare'?" in done.output


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("KeyboardInterrupt", 130, "Error: interrupted; run the same command again to continue\n"),
        ("BrokenPipeError", 0, ""),
        ("UserError('expected a')", 2, "Error: expected a\n"),
        ("click.ClickException('expected b')", 1, "Error: expected b\n"),
        ("click.exceptions.Exit(3)", 3, ""),
    ],
)
def test_a_command_ends_with_the_status_that_help_promises(raised, status, said):
    code = (
        "import click, zoo.cli.claims; from zoo.errors import UserError; from zoo.cli import main\n"
        f"def fail(**_): raise {raised}\n"
        "zoo.cli.claims.command.callback = fail; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "claims"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (status, said)


def test_an_empty_registry_says_what_to_do(zoo):
    assert "`dvc repro` trains and registers some" in zoo("list")
    assert json.loads(zoo("list", "--json")) == []


def test_the_registry_is_listed_and_shown(zoo, registered):
    lines = zoo("list").splitlines()
    assert lines[0].split()[:2] == ["model", "version"]
    assert [line.split()[0] for line in lines[1:]] == ["vit-gap-small", "vit-small"]
    rows = json.loads(zoo("list", "--json"))
    assert [row["aliases"] for row in rows] == [["best"], ["best"]]
    shown = json.loads(zoo("show", "vit-small@best", "--json"))
    assert shown["spec"]["subset_count"] == 40
    assert "digits small, 40 images" in zoo("show", "vit-small/1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "vit-smal"], "did you mean vit-small, vit-gap-small"),
        (["show", "vit-small/7"], "7"),
        (["compare", "vit-small"], "expected two or more models to compare, got 1"),
        (["compare", "vit-small", "vit-small"], "expected different models"),
        (["compare", "vit-small", "vit-gap-small", "--only", "ckaa"], "unknown analysis 'ckaa'"),
        (
            ["compare", "vit-small", "vit-gap-small", "--layers", "("],
            "a regular expression, got '('",
        ),
        (["compare", "vit-small", "vit-gap-small", "--data", "nothing"], "no file nothing"),
        (["compare", "vit-small", "vit-gap-small", "--out", "."], "zoo did not write it"),
        (["compare", "vit-small", "vit-gap-small", "--device", "bogus"], "unknown device 'bogus'"),
        (
            ["compare", "vit-small", "vit-gap-small", "--device", "cuda:99"],
            "'cuda:99' is not available here",
        ),
        (["register", "nothing"], "no trained model in nothing"),
    ],
)
def test_bad_input_ends_in_one_line_and_status_2(zoo, registered, arguments, message):
    error = zoo(*arguments, status=2)
    assert message in error
    assert error.startswith("Error: ")
    assert len(error.splitlines()) == 1
    assert not (registered / "reports").exists()


def test_a_comparison_leaves_a_report_and_is_then_found(zoo, registered):
    arguments = [
        "compare",
        "vit-small",
        "vit-gap-small",
        "--images",
        "40",
        "--only",
        "accuracy,cka",
    ]
    first = zoo(*arguments)
    folder = registered / "reports" / "vit-small__vit-gap-small"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {
        "report.html",
        "report.json",
        "arrays/cka.npz",
        "figures/accuracy-by-class.svg",
    } <= names
    assert "R-uniform" in first
    assert str(folder / "report.html") in first
    report = json.loads((folder / "report.json").read_text())
    assert report["images"]["count"] == 40
    assert report["command"].endswith(
        "compare vit-small vit-gap-small --images 40 --only accuracy,cka"
    )
    arrays = np.load(folder / "arrays" / "cka.npz", allow_pickle=False)
    assert arrays["cka/vit-small__vit-gap-small"].shape == (4, 4)
    assert zoo(*arguments).startswith("Found: compared on ")
    assert json.loads(zoo(*arguments, "--json")) == report
    assert zoo(*arguments, "--quiet").strip() == str(folder / "report.html")


def test_plain_tables_are_aligned(capsys):
    print_table(("name", "n"), [("a", 1), ("longer", 200)])
    assert capsys.readouterr().out == "name      n\na         1\nlonger  200\n"


def test_the_links_of_the_pages_are_printed(zoo, registered):
    printed = zoo("ui", "--no-serve", "--port", "5123")
    links = re.findall(r"http\S+", printed)
    assert len(links) == 3
    assert all(link.startswith("http://127.0.0.1:5123/#/") for link in links)
    assert all("workflowType=machine_learning" in link for link in links)


def test_analyses_and_claims_are_listed(zoo):
    analyses = json.loads(zoo("analyses", "--json"))
    assert {"accuracy", "cka", "attention-maps", "feature-maps"} <= {a["name"] for a in analyses}
    claims = json.loads(zoo("claims", "--json"))
    assert all(claim["threshold"] and claim["why"] for claim in claims)
    assert "Z-accuracy" in zoo("claims")
