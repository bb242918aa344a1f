"""`zoo evaluate` on a subset, on a folder of photos of any size, and on what it cannot take."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo.cli.evaluate import _print
from zoo.data.subsets import load_subset
from zoo.experiments.evaluation import Evaluation
from zoo.models.files import load_model, save_model


@pytest.fixture
def here(project, make_model):
    for name, seed in (("one", 0), ("two", 1)):
        model = make_model("vit", name, seed=seed)
        save_model(project / name, model.module, model.spec)
    return project


def test_a_subset_and_two_models(here, zoo, digits_folder):
    data = digits_folder / "test"
    said = json.loads(zoo("evaluate", "./one", "./two", "--data", str(data), "--json"))
    subset = load_subset(data)
    for entry in said:
        logits = load_model(here / entry["model"])(np.array(subset.images)).numpy()
        values = {m["measure"]: m["value"] for m in entry["metrics"]}
        assert values["accuracy"] == (logits.argmax(1) == subset.labels).mean()
        assert entry["images"] == len(subset)
    text = zoo("evaluate", "./one", "./two", "--data", str(data), "--images", "40")
    assert "95 % interval" in text
    assert "one minus two: " in text
    assert "40 images" in text


def test_the_difference_is_of_the_first_minus_the_second(capsys):
    right = {"one": np.arange(50) < 10, "two": np.arange(50) < 30}
    _print([Evaluation(name, (), of, ()) for name, of in right.items()])
    assert "one minus two: −40.0 percentage points (−5" in capsys.readouterr().out


def test_images_that_a_model_was_trained_on_are_told(here, make_model, zoo, digits_folder, capsys):
    small = load_subset(digits_folder / "small").info
    known = {"subset": "small", "subset_digest": small.digest}
    model = make_model("vit", "trained", **known)
    save_model(here / "trained", model.module, model.spec)
    (here / "data").mkdir()
    (here / "data" / "subsets").symlink_to(digits_folder)
    (here / "params.yaml").write_text("{}")

    def notes(data, *options):
        said = zoo("evaluate", "./one", "./trained", "--data", data, "--json", *options)
        return [[n for n in entry["notes"] if "trained on" in n] for entry in json.loads(said)]

    count = load_subset(digits_folder / "full").info.count
    told = f"trained was trained on 40 of these {count:,} images: on new ones it may do worse."
    assert notes("data/subsets/full") == [[], [told]]  # nested: it holds the smaller one
    told = "trained was trained on 20 of these 20 images: on new ones it may do worse."
    assert notes("data/subsets/small", "--images", "20") == [[], [told]]
    assert notes("data/subsets/test") == [[], []]


def test_a_folder_of_photos(here, zoo):
    for name in ("3", "7"):
        (here / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (20 + i, 30), 60 * i).save(here / "photos" / name / f"{i}.png")
    said = json.loads(zoo("evaluate", "./one", "--data", "photos", "--json", "--batch-size", "5"))
    assert said[0]["images"] == 8
    (here / "photos" / "cat").mkdir()
    Image.new("L", (8, 8)).save(here / "photos" / "cat" / "1.png")
    refused = zoo("evaluate", "./one", "--data", "photos", status=2)
    assert "one does not know the class 'cat'" in refused
    assert refused.count("\n") == 1
    (here / "photos" / "3" / "0.png").write_bytes(b"no image")
    (here / "photos" / "cat" / "1.png").unlink()
    (here / "photos" / "cat").rmdir()
    assert "0.png: damaged image" in zoo("evaluate", "./one", "--data", "photos", status=2)


def test_models_without_images_say_data(here, zoo):
    assert "--data" in zoo("evaluate", "./one", status=2)
