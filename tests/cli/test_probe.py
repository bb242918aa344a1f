"""`zoo probe`, as a user meets it."""

import csv
import json

import pytest


@pytest.fixture
def models(project, save, digits_folder):
    """The digits' subsets, and two models."""
    (project / "data").mkdir()
    (project / "data" / "subsets").symlink_to(digits_folder)
    save("vit-small")
    save("vit-gap-large", image_size=24)
    return project


def test_a_table_of_layers_is_printed_and_saved(zoo, models):
    lines = zoo("probe", "models/vit-small").splitlines()
    assert lines[0].startswith("vit-small: accuracy of linear probes on 359 test images, fitted on "
                               "40 of small and on 2 a class")  # fmt: skip
    assert "class token, all" in lines[2]
    # 10-shot would be all: there are 4 a class.
    assert "mean over places, 2-shot" in lines[2]
    assert [line.split()[0] for line in lines[3:6]] == ["stem", "blocks.0", "blocks.1"]
    folder = models / "reports" / "probe-vit-small"
    assert {p.name for p in folder.iterdir()} == {
        "probe.png",
        "probe.svg",
        "probe.csv",
        "probe.json",
    }
    *rows, pixels = csv.DictReader((folder / "probe.csv").open())
    assert (rows[0]["pooling"], rows[0]["all"]) == ("class token", "")
    poolings = ["class token", "mean over places", "untrained, mean over places"]
    assert [row["pooling"] for row in rows[-3:]] == poolings
    assert lines[5].split()[1:4] == [f"{float(row['all']):.3g}" for row in rows[-3:]]
    whole, few = (f"{float(pixels[kind]):.3g}" for kind in ("all", "few"))
    assert (pixels["layer"], pixels["depth"]) == ("raw pixels, no network", "")
    assert lines[6] == f"raw pixels, no network: {whole} fitted on all, {few} 2-shot"


def test_a_narrow_terminal_does_without_the_untrained_network(zoo, models, monkeypatch):
    asked = {}
    monkeypatch.setattr("zoo.cli.probe.print_table", lambda *_, **known: asked.update(known))
    zoo("probe", "models/vit-gap-large")
    assert asked["droppable_columns"] == [
        "untrained, mean over places, 2-shot", "untrained, mean over places, all",
    ]  # fmt: skip


def test_json_holds_what_was_measured_and_on_what(zoo, models, digits_folder):
    report = json.loads(
        zoo("probe", "models/vit-gap-large", "--train", "full", "--few-shot", "3", "--json",
            "--data-root", str(digits_folder), "--layers", "blocks.1$", "--out", "here")
    )  # fmt: skip
    assert report["images"] == {"fit": 1295, "test": 359}
    assert [row["layer"] for row in report["layers"]] == ["blocks.1"] * 2
    metrics = {(m["measure"], m["network"]): m["value"] for m in report["metrics"]}
    assert metrics["pixels_accuracy", ""] > metrics["chance", ""] + 0.5
    assert report["layers"][0]["all"] > metrics["chance", ""] + 0.2
    assert report["model"]["digest"]
    assert json.loads((models / "here" / "probe.json").read_text()) == report


@pytest.mark.parametrize(("arguments", "message"), [
    (["models/vit-small", "--train", "smal"], "did you mean 'small'? valid: full, small\n"),
    (["models/vit-small", "--data-root", "nowhere"], "no subsets in nowhere: build them with"),
    (["models/vit-small", "--layers", "("], "a regular expression, got '('"),
    (["models/vit-small", "--train", "test"], "fitted on a held-out split say nothing about new"),
    (["models/vit-small", "--train", "validation"], "name a subset of the training images"),
    (["models/vit-small", "--seed", str(2**32)], "not in the range 0<=x<=4294967295"),
    (["models/none"], "no model in models/none"),
    (["models/vit-small", "--out", "models"], "models, which zoo did not write"),
    (["models/vit-small", "--device", "meta"], "'meta' is not available here"),
])  # fmt: skip
def test_bad_input_is_one_line(zoo, models, arguments, message):
    error = zoo("probe", *arguments, status=2)
    assert error.startswith("Error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (models / "reports").exists()
