"""`zoo transfer`, as a user meets it."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data.subsets import load_subset
from zoo.files import user_path
from zoo.models.files import load_model
from zoo.models.spec import SPEC, read_spec

PROJECT = Path(__file__).parent.parent.parent
transfer = importlib.import_module("zoo.cli.transfer")


@pytest.fixture
def photos(project, save):
    """One model, and pictures of two classes."""
    save("vit-small", class_names=list("abcdefghij"))
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, mean in (("dark", 60), ("light", 190)):
            folder = project / "photos" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                picture = random.normal(mean, 20, (20, 24, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / f"{i}.png")
    return project


def test_a_model_is_taken_to_pictures_and_registered(zoo, photos):
    printed = zoo("transfer", "models/vit-small", "--source", "imagefolder", "--root", "photos",
                  "--epochs", "12", "--learning-rate", "0.003", "--batch-size", "10")  # fmt: skip
    folder = photos / "reports" / "transfer-vit-small-on-imagefolder"
    assert printed.startswith("vit-small on imagefolder, fine-tuned on 44 images, seed 0")
    report = json.loads((folder / "report.json").read_text())
    assert report["accuracy"]["after"] > 0.9
    assert report["accuracy"]["most_common"] == 0.5
    line = next(line for line in printed.splitlines() if line.startswith("network after"))
    assert float(line.split()[-1]) == round(report["accuracy"]["after"], 3)
    assert report["command"].startswith("zoo transfer models/vit-small --source imagefolder")
    model = load_model(folder / "model")
    assert model.spec.class_names == ["dark", "light"]
    test = load_subset(folder / "data" / "test")
    right = (model(np.array(test.images)).argmax(1).numpy() == test.labels).mean()
    assert right == report["accuracy"]["after"]
    register = printed.splitlines()[-1].removeprefix("register").split()
    assert register[:2] == ["zoo", "register"]
    listed = json.loads(zoo(*register[1:], "--json"))
    assert [(entry["name"], entry["created"]) for entry in listed] == [
        ("vit-small-on-imagefolder", True)
    ]
    assert listed[0]["digest"] == report["after"]["digest"]


def test_only_the_classifier_may_be_trained(zoo, photos):
    report = json.loads(
        zoo("transfer", "models/vit-small", "--source", "digits", "--subset", "40", "--epochs", "2",
            "--freeze", "--name", "probe-1", "--json", "--seed", "3", "--out", "here")
    )  # fmt: skip
    assert report["training"]["freeze"]
    assert report["training"]["learning_rate"] == 0.01
    assert report["images"]["train"] == 40
    assert all(row["cka"] > 0.999999 for row in report["layers"] if row["block"])
    assert read_spec(photos / "here" / "model" / SPEC).seed == 3
    assert not (photos / "reports").exists()
    assert sorted(p.name for p in photos.iterdir()) == ["here", "models", "photos"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["models/vit-small", "--source", "digitz"], "unknown source 'digitz'; did you mean 'digits'"),
    (["models/none", "--source", "digits"], "no model in models/none"),
    (["models/vit-small", "--source", "digits", "--out", "photos"], "photos, which zoo did not"),
    (["models/vit-small", "--source", "digits", "--subset", "9999"], "9999 images asked for"),
    (["models/vit-small", "--source", "digits", "--device", "bogus"], "unknown device 'bogus'"),
    (["models/vit-small", "--source", "digits", "--name", "a/b"], "name 'a/b': expected letters"),
    (["models/vit-small", "--source", "imagefolder"], "/data/raw; expected <class>/<image> fold"),
    (["models/vit-small", "--source", "imagefolder", "--root", "none"],
     "Error: no folder none; expected <class>/<image> folders in it "
     "(--source imagefolder --root none)"),
    (["models/vit-small", "--source", "digits", "--subset", "40", "--learning-rate", "1e30"],
     "1e+30 is not in the range 0<x<=1000"),
])  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(zoo, photos, arguments, message):
    error = zoo("transfer", *arguments, status=2)
    assert error.startswith("Error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    reports = photos / "reports"
    assert not reports.exists() or not list(reports.iterdir())


@pytest.mark.parametrize(("source", "given", "found"), [
    ("imagefolder", None, "home/flowers"),
    ("imagefolder", "~/other", "home/other"),
    ("imagefolder", "other", "other"),
    ("digits", None, "data/raw"),
])  # fmt: skip
def test_images_are_looked_for_where_params_has_the_same_source(
    project, monkeypatch, source, given, found
):
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.setattr("zoo.data.sources.load_source", lambda name, folder: (name, folder))
    params = (PROJECT / "params.yaml").read_text()
    edited = params.replace("source: digits", "source: imagefolder", 1)
    edited = edited.replace("root: data/raw", "root: ~/flowers", 1)
    (project / "params.yaml").write_text(edited)
    (project / "dvc.yaml").touch()
    name, folder = transfer._load_source(source, given and user_path(given))
    assert (name, project / folder) == (source, project / found)


def test_params_of_another_program_are_no_obstacle(project, monkeypatch):
    (project / "params.yaml").write_text("prepare: {split: 0.2}")
    assert transfer._usual_root("imagefolder") == project / "data" / "raw"


def test_broken_params_of_the_project_are_told(zoo, project):
    (project / "params.yaml").write_text("data: [")
    (project / "dvc.yaml").touch()
    error = zoo("transfer", "models/vit-small", "--source", "digits", status=2)
    assert "params.yaml is not valid YAML" in error
    assert "by --root" in error
