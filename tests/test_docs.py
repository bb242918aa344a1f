"""What the docs link to and name exists; the site builds, and loads nothing from elsewhere."""

import ast
import importlib.util
import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from zoo.analyses import ANALYSES
from zoo.claims import CLAIMS
from zoo.cli import COMMANDS, cli
from zoo.config import load_params

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PARTS = (
    "What it shows",
    "Formula|What is compared",
    "Reading|How to read the figures?",
    "Where it misleads",
    "Source",
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page):
    """A page's text without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


def commands(page):
    """Every call of zoo or make on a page, (tool, words): in blocks and in code."""
    blocks = [body for _, kind, body in FENCE.findall(page.read_text()) if kind == "console"]
    lines = [line[2:] for block in blocks for line in block.splitlines() if line[:2] == "$ "]
    lines += re.findall(r"^ {4}(\S.*)", prose(page), re.MULTILINE) + CODE.findall(prose(page))
    for line in lines:
        tool, *words = line.partition(" #")[0].removeprefix(".venv/bin/").split() or [""]
        if tool in ("zoo", "make") and words:
            yield tool, words


def command_named(words):
    """The command that words call, and what is left of them; fails where there is none."""
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z-]+", words[0]):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"no command {name}"
    return command, words


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        # Not resolved: the site follows the links in docs/ to what lies beside it.
        file = Path(os.path.normpath(page.parent / path)) if path else page
        assert file.exists(), f"{target}: no such file"
        # The site holds docs/ alone.
        assert file.is_relative_to(DOCS if page.is_relative_to(DOCS) else ROOT), target
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading, there: {anchors(file)}"


def test_every_picture_of_the_docs_is_shown_on_a_page():
    shown = {Path(target).name for page in PAGES for target in LINK.findall(page.read_text())}
    assert {path.name for path in (DOCS / "images").iterdir()} <= shown


def script(name):
    """One of the programs in docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_known_by_where_it_is_drawn():
    figures = script("figures")
    known = [name for of in figures.FIGURES.values() for names in of.values() for name in names]
    lost = ["cifar10-cka"]  # whose weights were not kept
    assert sorted(known + lost) == sorted(path.stem for path in (DOCS / "images").iterdir())
    assert set(figures.FIGURES) == set(figures.COMMANDS)
    assert set(figures.FIGURES) <= {path.stem for path in (ROOT / "studies").glob("*.yaml")}
    for command in itertools.chain(*figures.COMMANDS.values()):
        found, rest = command_named(command.split()[1:])
        assert found, command
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, command


def test_the_gap_studys_pictures_are_drawn_from_the_tables_of_its_page():
    figures = script("gap_figures")
    page = (DOCS / "gap.md").read_text()
    for headings in figures.TABLES.values():
        rows = figures.read_shares(page, headings)
        assert {row.images for row in rows} == set(headings)
        assert {row.share for row in rows if row.model == "vit"} == {0}
        assert all(row.share_low < row.share < row.share_high for row in rows
                   if not math.isnan(row.share_low))  # fmt: skip
    (of_cct,) = (row for row in rows if (row.model, row.images) == ("vit-cct", 500))
    assert (of_cct.seeds, of_cct.accuracy, of_cct.share_low) == pytest.approx((3, 0.369, 0.19))


def test_pictures_are_drawn_where_the_study_is_run_and_what_fails_is_named(tmp_path, monkeypatch):
    figures = script("figures")
    ran = []

    def run(command, cwd, **_):
        ran.append((command, cwd))
        return subprocess.CompletedProcess(command, returncode=int("map" in command))

    monkeypatch.setattr(figures, "HOME", tmp_path)
    monkeypatch.setattr(figures, "IMAGES", tmp_path)
    monkeypatch.setattr(figures.subprocess, "run", run)
    folder = tmp_path / "studies" / "runs" / "gap-long"
    for made in ("summary", "subsets/ab-0/test", "subsets/ab-1/test"):
        (folder / made).mkdir(parents=True)
    (folder / "summary" / "gap.png").write_text("drawn")
    assert list(figures.draw("gap-long", "/photos")) == [
        "gap-long: zoo map failed",
        "map-matrix: no studies/runs/gap-long/reports/map/matrix.png",
        "map-plane: no studies/runs/gap-long/reports/map/plane.png",
    ]
    assert (tmp_path / "gap-long.png").read_text() == "drawn"
    assert ran[0][0][1:] == ["-m", "pipelines.study", "gap-long", "/photos"]
    assert ran[-1] == ("zoo map --data subsets/ab-0/test --images 512", folder)


@every_page
def test_every_command_of_a_page_exists_with_its_options(page):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for tool, words in commands(page):
        if tool == "make":
            assert words[0] in targets, f"make {words[0]}"
            continue
        command, rest = command_named(words)
        known = {name for parameter in command.params for name in parameter.opts}
        known |= {"--help", "--version", "-h"}
        for word in rest:
            if word.startswith("-"):
                assert word.split("=")[0] in known, f"zoo {' '.join(words)}: no {word}"


@every_page
def test_every_path_of_the_repository_that_a_page_names_exists(page):
    for code in CODE.findall(prose(page)):
        if re.fullmatch(r"(zoo|docs|tests|pipelines|examples|\.ci)(/[\w.-]+)*/?", code):
            assert (ROOT / code).exists(), code


@every_page
def test_lists_begin_after_an_empty_line_so_that_the_site_shows_them(page):
    lines = prose(page).splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith("- "):
            assert not before or re.match(r"- | {2}", before), line


@every_page
def test_every_python_block_is_python(page):
    for _, kind, body in FENCE.findall(page.read_text()):
        if kind == "python":
            ast.parse(body)


@pytest.mark.parametrize(
    ("page", "source", "passes", "rate"),
    [("reproduce", "cifar10", 500, 0.0001), ("findings", "imagefolder", 10, 0.0003)],
)
def test_settings_on_a_page_are_complete(tmp_path, page, source, passes, rate):
    blocks = FENCE.findall((DOCS / f"{page}.md").read_text())
    (given,) = (body for _, kind, body in blocks if kind == "yaml" and "\nsubsets:" in body)
    sections = yaml.safe_load((ROOT / "params.yaml").read_text()) | yaml.safe_load(given)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    params = load_params(tmp_path / "params.yaml")
    assert params.data.source == source
    for model, subset, _ in params.variants:
        assert params.train_config(model).epochs_on(subset) >= passes
    assert params.train_config("vit").learning_rate == rate


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_has_a_page_that_says_it_all(name):
    text = (DOCS / "analyses" / f"{name}.md").read_text()
    assert text.startswith("# ")
    for part in PARTS:
        assert re.search(rf"^\*\*({part})\.\*\*", text, re.MULTILINE), part
    assert "](../images/" in text


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    pages = {p.relative_to(tmp_path / "site").as_posix(): p for p in tmp_path.rglob("*.html")}
    for path, page in pages.items():
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text()):
            assert not re.search(r'(?:src|href)="?(?:https?:)?//', tag), f"{path}: {tag}"
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())
    titles = {entry["location"]: entry["title"] for entry in index["docs"]}
    assert titles["own-images.html"] == "Your own images"
    cli_page = pages["reference/cli.html"].read_text()
    for name in COMMANDS:
        assert f'id="zoo-{name}"' in cli_page
    claims_page = pages["claims.html"].read_text()
    for claim in CLAIMS:
        assert f'id="{claim.id.lower()}"' in claims_page
    python_page = pages["reference/python.html"].read_text()
    for name in ("zoo.api.compare", "zoo.measures.linear_cka.linear_cka"):
        assert f'id="{name}"' in python_page


def test_what_the_pages_take_from_the_code_is_current():
    generate = script("generate")
    assert "stale" not in generate.filled("<!-- zoo: claims -->\nstale\n<!-- /zoo -->\n")
    for page in PAGES:
        text = page.read_text()
        assert generate.filled(text) == text, f"{page.name}: run python docs/generate.py"
    assert sum("<!-- zoo: " in page.read_text() for page in PAGES) == 3
