"""Accuracy and calibration of one network, against the formulas and against a comparison."""

import numpy as np
import pytest
from PIL import Image

from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.data.sources import Split, labelled_folder
from zoo.errors import UserError
from zoo.experiments.evaluation import evaluate

NAMES = tuple("0123456789")


def split_of(images, labels):
    return Split(labels, lambda i: images[i])


def test_it_is_what_a_comparison_says(make_model, digit_images):
    images, labels = digit_images
    model = make_model("vit", "v")
    found = evaluate(model, split_of(images, labels), NAMES, settings=Settings(batch_size=7))
    compared = compare_models(
        [model], images, labels, class_names=NAMES, only=["accuracy", "calibration"]
    )
    expected = {metric.measure: metric for _, metric in compared.metrics()}
    assert {"accuracy", "likelihood", "error", "error_by_chance"} <= set(expected)
    for metric in found.metrics:
        same = expected.pop(metric.measure)
        for end in ("value", "low", "high"):
            np.testing.assert_allclose(getattr(metric, end), getattr(same, end), rtol=1e-4)
    assert not expected
    logits = model(images).numpy()
    assert found.find("accuracy").value == (logits.argmax(1) == labels).mean()
    assert found.right.tolist() == (logits.argmax(1) == labels).tolist()


def test_classes_are_found_by_name_among_more(make_model, digit_images):
    images, labels = digit_images
    some = np.isin(labels, [3, 7])
    model = make_model("vit", "v")
    as_folder = np.where(labels[some] == 7, 0, 1)  # the folders stand in another order
    found = evaluate(model, split_of(images[some], as_folder), ("7", "3"))
    assert found.right.tolist() == (model(images[some]).numpy().argmax(1) == labels[some]).tolist()
    assert any("8 of 10 classes have no image" in note for note in found.notes)


def test_what_a_model_cannot_be_asked_is_one_line(make_model, digit_images):
    images, labels = digit_images
    model = make_model("vit", "v")
    with pytest.raises(UserError, match=r"v does not know the class 'cat' \(1 of 2 are not"):
        evaluate(model, split_of(images, labels % 2), ("1", "cat"))
    model.spec.class_names.clear()
    with pytest.raises(UserError, match="v has no classifier"):
        evaluate(model, split_of(images, labels), NAMES)


def test_a_folder_is_its_test_split_or_all_of_it(tmp_path):
    for path in ("a/train/cat", "a/train/dog", "a/test/cat", "a/test/dog", "b/cat", "b/dog"):
        (tmp_path / path).mkdir(parents=True)
        Image.new("RGB", (4, 3), len(path)).save(tmp_path / path / "1.png")
    names, split = labelled_folder(tmp_path / "a")
    assert (names, len(split)) == (("cat", "dog"), 2)
    assert split.read(0)[0, 0, 0] == len("a/test/cat")
    assert len(labelled_folder(tmp_path / "b")[1]) == 2
    with pytest.raises(UserError, match="no folder"):
        labelled_folder(tmp_path / "c")
