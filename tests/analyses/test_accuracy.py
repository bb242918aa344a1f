import numpy as np
import torch
import xarray as xr

from tests.claims import made
from zoo.analyses import accuracy
from zoo.analyses.engine import compare_models
from zoo.measures.intervals import paired_difference
from zoo.study.accumulator import NotApplicable
from zoo.study.axes import column
from zoo.study.results import INITIAL, TRAINED, Result

CLASSES = [str(i) for i in range(10)]


def test_in_a_comparison_accuracy_is_the_share_of_right_answers(make_model, digit_images):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_model("resnet18", "r")]
    found = compare_models(models, images, labels, class_names=CLASSES, only=["accuracy"])
    result = found.results["accuracy"]
    for model in models:
        right = model(images).argmax(dim=1).numpy() == labels
        assert result.metric("accuracy", model.name) == right.mean()
        by_class = result.data["class_accuracy"].sel({"network": model.name, "class": "3"})
        assert by_class == right[labels == 3].mean()
    (drawing,) = accuracy.draw(result, ["v", "r"])
    assert "60 images" in drawing.figure.axes[0].get_title(loc="left")


def test_the_difference_of_a_pair_stands_with_its_interval(make_model, digit_images):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_model("vit", "w", seed=1)]
    result = compare_models(models, images, labels, class_names=CLASSES, only=["accuracy"]).results[
        "accuracy"
    ]
    v, w = (result.data["predicted"].sel(network=name).values == labels for name in "vw")
    found = result.find("difference", "v", "w")
    assert (found.value, found.low, found.high) == paired_difference(v, w)
    turned = result.find("difference", "w", "v")
    assert (turned.value, turned.low, turned.high) == (-found.value, -found.high, -found.low)
    (drawing,) = accuracy.draw(result, ["v", "w"])
    legend = drawing.figure.legends[0].get_title().get_text()
    points = [f"{100 * x:+.1f}".replace("-", "−") for x in paired_difference(v, w)]
    assert legend == f"v minus w: {points[0]} percentage points ({points[1]} to {points[2]})"


def test_of_several_seeds_the_figure_shows_means_with_intervals_over_them():
    rates = {"v": [0.2, 0.4], "c": [0.6, 0.5], "v 1": [0.4, 0.6], "c 1": [0.7, 0.7], "v 0": [0, 0]}
    networks = {
        "network": column(list(rates)),
        "model": ("network", column([name[0] for name in rates])),
        "state": ("network", column([*[TRAINED] * 4, INITIAL])),
    }
    by_class = np.array(list(rates.values()))
    data = xr.Dataset(
        {
            "class_accuracy": (("network", "class"), by_class),
            "class_accuracy_ci": (("network", "class", "ci_bound"), np.zeros((5, 2, 2))),
        },
        networks | {"class": column(["cat", "dog"]), "image": np.arange(8)},
    )
    shares = {name: float(np.mean(row)) for name, row in rates.items()}
    found = made.metrics(accuracy=shares, difference={("v", "c"): [-0.25, -0.4, -0.1]})
    (drawing,) = accuracy.draw(Result(data, metrics=found.metrics), ["v", "c"])
    axis = drawing.figure.axes[0]
    drawn = [of.lines[0].get_ydata() for of in axis.containers]
    np.testing.assert_allclose(drawn, [[0.3, 0.5], [0.65, 0.6]])
    # By hand: Student's t of one degree of freedom times the standard error, cut at 0 and 1.
    bar = axis.containers[1].lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(bar, [0.65 - 12.706 * 0.05, 1], atol=1e-3)
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [
        "v (40.0 % in all, 2 seeds)", "c (62.5 % in all, 2 seeds)"
    ]  # fmt: skip
    assert "over seeds" in axis.get_title(loc="left")
    legend = drawing.figure.legends[0].get_title().get_text()
    assert legend.startswith("v minus c: −22.5 percentage points (−54.3 to +9.3")


def test_outputs_that_are_no_numbers_are_wrong_and_named(make_model, digit_images):
    images, labels = digit_images
    model = make_model("vit", "v")
    with torch.no_grad():
        model.module.head.bias[4] = torch.nan
    zeros = np.zeros_like(labels)  # what argmax makes of NaN
    result = compare_models([model], images, zeros, class_names=CLASSES, only=["accuracy"]).results[
        "accuracy"
    ]
    assert result.metric("accuracy", "v") == 0
    assert "v: on 60 of 60 images its outputs are not numbers; they count as wrong" in result.notes


def test_other_classes_are_not_rated_and_no_labels_do_not_apply(make_model, digit_images):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_model("vit", "w", class_names=list("abcdefghij"))]
    found = compare_models(models, images, labels, class_names=CLASSES, only=["accuracy"])
    assert found.results["accuracy"].metric("accuracy", "w") is None
    assert found.results["accuracy"].notes[0].startswith("w: not rated, since")
    found = compare_models(models, images, only=["accuracy"])
    assert found.not_applicable == {"accuracy": "the images have no labels"}
    assert issubclass(NotApplicable, Exception)
