"""Keeping a registry from the command line: promote, tag, describe, list, verify, rm."""

import json

import pytest
from click.testing import CliRunner

from zoo.cli import cli
from zoo.registry.local_database import DATABASE
from zoo.registry.store import open_store

ZOO = "from zoo.cli import main; main()"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--json"],
        ["show", "vit-small"],
        ["promote", "vit-small", "--alias", "a"],
        ["tag", "vit-small", "a=1"],
        ["describe", "vit-small"],
        ["rm", "vit-small/1", "--yes"],
        ["verify"],
    ],
)
def test_where_there_is_no_registry_none_is_made(zoo, project, arguments):
    said = zoo(*arguments, status=2)
    assert said.startswith(f"Error: no registry: there is no {project / DATABASE}; run this in")
    assert "MLFLOW_TRACKING_URI" in said
    assert list(project.iterdir()) == []


def test_a_folder_is_shown_without_a_registry(zoo, project, save):
    save("vit-small")
    assert "vit-small" in zoo("show", "models/vit-small")
    assert not (project / DATABASE).exists()


def test_an_alias_moves_and_says_from_where(zoo, kept):
    assert zoo("promote", "vit-small", "--alias", "paper") == (
        "vit-small@paper is version 1 (new)\n"
    )
    assert "(as before)" in zoo("promote", "vit-small@paper", "--alias", "paper")
    assert "best, paper" in zoo("list", "--filter", "alias=paper")
    assert json.loads(zoo("show", "vit-small", "--json"))["aliases"] == ["best", "paper"]
    assert "neither 'latest'" in zoo("promote", "vit-small", "--alias", "v1", status=2)
    assert "no version 9; it has 1" in zoo("promote", "vit-small/9", "--alias", "a", status=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tag", "vit-small", "stage"], "tag 'stage': expected KEY=VALUE"),
        (["tag", "a b", "stage=x"], "expected a model as NAME"),
        (["promote", "vit-small", "--alias", "a b"], "alias 'a b': expected letters, digits"),
        (["promote", "a b", "--alias", "a"], "expected a model as NAME"),
    ],
)
def test_what_is_mistyped_is_told_before_mlflow_is_imported(start, arguments, said):
    process = start("-c", f"import sys; sys.modules['mlflow'] = None; {ZOO}", *arguments)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert error.startswith(f"Error: {said}")


def test_tags_are_found_again(zoo, kept):
    assert "vit-small has no tags; zoo tag vit-small KEY=VALUE sets" in zoo("tag", "vit-small")
    assert zoo("tag", "vit-small", "stage=in review", "owner=ada").splitlines()[1:] == [
        "owner  ada",
        "stage  in review",
    ]
    rows = json.loads(zoo("list", "--json", "--filter", "stage='in review'"))
    assert [(row["name"], row["tags"]["owner"]) for row in rows] == [("vit-small", "ada")]
    assert "owner=ada" in zoo("show", "vit-small")
    zoo("tag", "vit-small", "--remove", "stage")
    assert "unknown field 'stage'" in zoo("list", "--filter", "stage=x", status=2)
    assert "expected KEY=VALUE" in zoo("tag", "vit-small", "stage", status=2)
    assert "both set and removed" in zoo("tag", "vit-small", "a=1", "--remove", "a", status=2)


def test_a_list_is_sorted_filtered_and_cut(zoo, kept, capsys):
    assert "None of 2 versions passes" in zoo("list", "--filter", "accuracy>0.9")
    names = [row["name"] for row in json.loads(zoo("list", "--json", "--sort", "validation"))]
    assert names == ["vit-gap-small", "vit-small"]
    done = CliRunner().invoke(cli, ["list", "--sort", "validation", "--limit", "1"])
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["model", "vit-gap-small"]
    assert done.stderr == "1 of 2 shown\n"


def test_a_description_is_shown_and_set(zoo, kept):
    assert zoo("describe", "vit-small").startswith("vit-small, seed 0: ")
    said = zoo("describe", "vit-small", "*Ours*\n\x1b[31m")
    assert said == "vit-small now has a description of 12 characters\n"
    assert zoo("describe", "vit-small") == "*Ours*\n\\x1b[31m\n"  # no escape reaches the terminal
    for empty in ("", " \n"):
        said = zoo("describe", "vit-small", empty, status=2)
        assert "got an empty one; --clear removes the description" in said
    said = zoo("describe", "vit-small", "x", "--clear", status=2)
    assert "--clear leaves no description: expected no text beside it" in said
    assert zoo("describe", "vit-small") == "*Ours*\n\\x1b[31m\n"
    assert zoo("describe", "vit-small", "--clear") == "vit-small now has no description\n"
    assert zoo("describe", "vit-small") == "\n"


@pytest.mark.parametrize(("answer", "removed"), [("y\n", True), ("n\n", False), ("", False)])
def test_removing_asks(kept, answer, removed):
    done = CliRunner().invoke(cli, ["rm", "vit-small@best"], input=answer)
    assert done.exit_code == (0 if removed else 2)
    assert done.stdout.splitlines()[1].split() == ["alias", "vit-small@best"]
    assert ("removed vit-small/1" in done.stdout) == removed
    assert ("not removed; --yes" in done.stderr) == (not removed)
    left = open_store(kept).client.search_model_versions("name = 'vit-small'")
    assert len(left) == (0 if removed else 1)


def test_verify_says_by_its_status_what_it_found(kept):
    done = CliRunner().invoke(cli, ["verify"])
    assert (done.exit_code, done.stdout) == (
        0,
        "2 versions, 1 test split and 0 DVC outputs checked: all is well\n",
    )
    client = open_store(kept).client
    client.set_model_version_tag("vit-small", "1", "zoo.test_accuracy", "0.99")
    done = CliRunner().invoke(cli, ["verify", "vit-small", "--json"])
    report = json.loads(done.stdout)
    assert (done.exit_code, report["well"], report["versions"]) == (3, False, 1)
    assert report["findings"] == [
        {
            "kind": "damaged",
            "what": "vit-small/1",
            "why": "tags were changed: zoo.test_accuracy is 0.99, was 0.5",
        }
    ]
    assert CliRunner().invoke(cli, ["verify", "vit-smal"]).exit_code == 2
