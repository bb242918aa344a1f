"""What a user meets on the command line."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from zoo.analyses import ANALYSES
from zoo.cli import COMMANDS, cli
from zoo.cli.output import is_quiet, is_verbose
from zoo.comparison import open_results
from zoo.study.axes import select

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output
    assert re.search(rf"^\s+(eval \"\$\()?zoo {name}\b", done.output, re.MULTILINE)
    for option in ("-q, --quiet", "-v, --verbose", "-h, --help"):
        assert done.output.count(option) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_has_its_own_idea_of_quiet(name):
    command = cli.get_command(None, name)
    again = cli.get_command(None, name)
    assert [p.name for p in again.params] == [p.name for p in command.params]
    shared = [p for p in command.params if p.name in ("quiet", "verbose")]
    assert [p.expose_value for p in shared] == [False, False]


def test_the_examples_of_help_name_options_that_exist():
    for name in COMMANDS:
        command = cli.get_command(None, name)
        known = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
        for line in re.findall(rf"^\s+zoo {name}\b(.*)$", command.help, re.MULTILINE):
            used = re.findall(r"(?<= )--?[a-z][a-z-]*", line.split("|")[0])
            assert set(used) <= known | {"--help"}, f"zoo {name}{line}"


def test_every_path_may_begin_with_the_sign_of_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = [
        parameter.type
        for name in COMMANDS
        for parameter in cli.get_command(None, name).params
        if isinstance(parameter.type, click.Path)
    ]
    assert len(paths) == 20
    (tmp_path / "file").touch()  # what is given as a file or folder has to be there
    (tmp_path / "folder").mkdir()
    for path in paths:
        name = "file" if path.file_okay else "folder"
        assert path.convert(f"~/{name}", None, None) == tmp_path / name
        with pytest.raises(click.BadParameter, match="expected a path, got an empty text"):
            path.convert("", None, None)


def test_help_lists_every_command_by_its_whole_first_sentence():
    printed = " ".join(CliRunner().invoke(cli, ["--help"], terminal_width=80).output.split())
    for name in COMMANDS:
        first = cli.get_command(None, name).help.split("\n\n")[0].split(". ")[0].rstrip(".")
        assert f" {name} {' '.join(first.split())}" in printed


def test_claims_are_shown_by_their_ids():
    printed = CliRunner().invoke(cli, ["claims", "R-reach", "Z-gap"]).output
    assert [line.split(":")[0] for line in printed.splitlines() if line[0] != " "] == [
        "R-reach", "Z-gap",
    ]  # fmt: skip
    (claim,) = json.loads(CliRunner().invoke(cli, ["claims", "R-reach", "--json"]).output)
    assert claim["id"] == "R-reach"
    done = CliRunner().invoke(cli, ["claims", "R-reech"])
    assert done.exit_code == 2
    assert "unknown claim 'R-reech'; did you mean 'R-reach'?" in done.output


def test_a_keyword_can_be_a_commands_name(monkeypatch):
    given = click.Command("import", callback=lambda: None)
    monkeypatch.setitem(sys.modules, "zoo.cli.import_", SimpleNamespace(command=given))
    monkeypatch.setattr("zoo.cli.COMMANDS", ("import",))
    assert cli.get_command(None, "import") is given


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["comprae"], "unknown command 'comprae'; did you mean 'compare'? valid: analyses, "),
        (["--verson"], "--version"),
        (["compare", "a", "b", "--imges", "3"], "--images"),
        (["compare"], "Missing argument 'REFERENCES...'. (see: zoo compare --help)"),
        (["compare", "a", "b", "--images", "two"], "'two' is not a valid integer range. (see: zoo"),
        (["compare", "a", "b", "--images", "3"], "3 is not in the range 4<=x<=2147483647. (see: "),
        (["transfer", "a", "--learning-rate", "0"], "0.0 is not in the range 0<x<=1000"),
        (["ui", "--port", "0"], "'--port': 0 is not in the range 1<=x<=65535. (see: zoo ui --help"),
        (["compare", "a", "b", "--pool", "foo"], "'foo' is not one of 'flatten', 'gap', 'cls', "),
        (["compare", "a", "b", "--show", "first"], "show: expected apart, classes, class:NAME, "),
        (["list", "--filter"], "Option '--filter' requires an argument. (see: zoo list --help)"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_a_typo_ends_in_one_line_with_a_suggestion(arguments, line):
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert line in done.stderr


def test_zoo_alone_shows_its_help():
    done = CliRunner().invoke(cli, [])
    assert done.output.startswith("Usage: ")
    assert "Exit status: 0 done, 1 a bug in zoo, 2 bad input" in done.output


@pytest.mark.parametrize("before", [True, False])
def test_quiet_and_verbose_stand_before_or_after_the_command(monkeypatch, before):
    seen = []

    def look(**_):
        seen.append((is_quiet(), is_verbose(), logging.getLogger("zoo").level))

    monkeypatch.setattr(cli.get_command(None, "claims"), "callback", look)
    for flags in ([], ["-q"], ["--verbose"]):
        arguments = [*flags, "claims"] if before else ["claims", *flags]
        logging.getLogger("zoo").setLevel(logging.WARNING)
        assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert seen == [
        (False, False, logging.WARNING),
        (True, False, logging.WARNING),
        (False, True, logging.INFO),
    ]


FAILING = (
    "import click, zoo.cli.claims; from zoo.errors import UserError; from zoo.cli import main\n"
    "def fail(**_): raise {}\n"
    "zoo.cli.claims.command.callback = fail; main()"
)


@pytest.mark.parametrize("raised", ["UserError('expected a')", "OSError(5, 'expected a')"])
def test_verbose_says_where_an_error_arose(raised):
    for flags, traces in (([], 0), (["-v"], 1)):
        command = [sys.executable, "-c", FAILING.format(raised), "claims", *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.count("Traceback") == traces
        assert done.stderr.splitlines()[-1] == "Error: expected a"


def test_help_imports_of_other_packages_click_and_yaml_alone():
    """The promise is 0.15 s, of which there is none left for others; benchmarks/ measures it."""
    code = (
        "import sys; before = {*sys.modules}; from zoo.cli import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "first = {name.partition('.')[0] for name in {*sys.modules} - before}\n"
        "print(*sorted(first - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [n for n in done.stdout.splitlines()[-1].split() if not n.startswith("_")]
    assert {"click", "zoo"} <= {*loaded} <= {"click", "yaml", "cython_runtime", "zoo"}


def test_a_command_does_not_look_for_garbage_among_all_that_it_made():
    """Importing torch and MLflow makes half a million objects; none of them is garbage."""
    code = (
        "import gc, zoo.cli, zoo.cli.claims\n"
        "def make(**_):\n"
        "    before = gc.get_stats()[2]['collections']\n"
        "    made = [[] for _ in range(500_000)]\n"
        "    print(gc.get_stats()[2]['collections'] - before)\n"
        "zoo.cli.claims.command.callback = make; zoo.cli.main()"
    )
    command = [sys.executable, "-c", code, "claims"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


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
    code = FAILING.format(raised)
    done = subprocess.run(
        [sys.executable, "-c", code, "claims"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (status, said)


def test_an_empty_project_says_what_to_do(zoo):
    assert "`dvc repro`" in zoo("list", status=2)


def test_the_registry_is_listed_and_shown(zoo, registered):
    lines = zoo("list").splitlines()
    assert lines[0].split()[:2] == ["model", "version"]
    assert [line.split()[0] for line in lines[1:]] == ["vit-gap-small", "vit-small"]
    rows = json.loads(zoo("list", "--json"))
    assert [row["aliases"] for row in rows] == [["best"], ["best"]]
    assert lines[0].endswith("test accuracy")
    accuracies = [str(round(row["test_accuracy"], 4)) for row in rows]
    assert [line.split()[-1] for line in lines[1:]] == accuracies
    shown = json.loads(zoo("show", "vit-small@best", "--json"))
    assert shown["spec"]["subset_count"] == 40
    assert "digits small, 40 images" in zoo("show", "vit-small/1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["show", "vit-smal"],
            "; did you mean 'vit-small'? registered: vit-gap-small, vit-small\n",
        ),
        (["show", "vit-small/7"], "7"),
        (["compare", "vit-small"], "expected two or more models to compare, got 1"),
        (["compare", "vit-small", "vit-small"], "expected different models"),
        (["compare", "vit-small", "vit-gap-small", "--only", "ckaa"], "unknown analysis 'ckaa'"),
        (
            ["compare", "vit-small", "vit-gap-small", "--layers", "("],
            "a regular expression, got '('",
        ),
        (
            ["compare", "vit-small", "vit-gap-small", "--data", "nothing"],
            "nothing: expected a folder of pictures or a subset's (such as data/subsets/test), "
            "got no such folder",
        ),
        (
            ["compare", "vit-small", "vit-gap-small", "--data", "mlflow.db"],
            "(such as data/subsets/test), got a file",
        ),
        (["compare", "vit-small", "vit-gap-small", "--out", "."], "which zoo did not write"),
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
        "results.nc",
        "figures/accuracy-by-class.svg",
    } <= names
    assert "R-uniform" in first
    assert str(folder / "report.html") in first
    report = json.loads((folder / "report.json").read_text())
    assert report["images"]["count"] == 40
    assert report["command"].endswith(
        "compare vit-small vit-gap-small --images 40 --only accuracy,cka"
    )
    cka = open_results(folder)["cka"]["cka"]
    assert select(cka, "vit-small", "vit-gap-small").shape == (4, 4)
    assert zoo(*arguments).startswith("Found: compared on ")
    assert json.loads(zoo(*arguments, "--json")) == report
    assert zoo(*arguments, "--quiet").strip() == str(folder / "report.html")


def test_the_links_of_the_pages_are_printed(zoo, registered):
    printed = zoo("ui", "--no-serve", "--port", "5123")
    links = re.findall(r"http\S+", printed)
    assert len(links) == 3
    assert all(link.startswith("http://127.0.0.1:5123/#/") for link in links)
    assert all("workflowType=machine_learning" in link for link in links)


def test_analyses_and_claims_are_listed(zoo):
    analyses = json.loads(zoo("analyses", "--json"))
    assert [a["name"] for a in analyses] == list(ANALYSES)
    assert all(a["forward_passes"] > 0 and a["measured"] for a in analyses)
    text = zoo("analyses")
    assert text.count("    cost: ") == len(ANALYSES)
    assert "Cost measured " in text
    assert "; runs only with --only loss-geometry\n" in text
    claims = json.loads(zoo("claims", "--json"))
    assert all(claim["threshold"] and claim["why"] for claim in claims)
    assert "Z-accuracy" in zoo("claims")
