import pytest

from zoo.report.filters import (
    FILTERS,
    describe_input,
    format_estimate,
    format_number,
    keep_whole,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0.000"),
        (1234.5, "1,234.500"),
        (1e9, "1,000,000,000"),
        (-3, "−3"),
        (True, "yes"),
        (float("nan"), "–"),
        (3.2e8 + 0.5, "3.2e+08"),
        (-0.0001, "−1.0e−04"),
    ],
)
def test_numbers_are_written_for_people(value, written: str):
    assert format_number(value) == written


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ((2, 1, 3), ("2", "1 to 3")),
        ((0, 0, 0), ("0", "0 to 0")),
        ((64, None, None), ("64", "")),
        ((-2, -3, 0), ("−2", "−3 to 0")),
        ((2.0, 1.0, 3.0), ("2.0", "1.0 to 3.0")),  # a mean of counts over seeds
        ((4 / 3, -0.1, 2.77), ("1.3", "−0.1 to 2.8")),
    ],
)
def test_counts_have_no_decimals_and_their_means_as_many_as_their_interval_supports(found, written):
    assert format_estimate(*found) == written


def test_the_input_of_a_model_is_described_as_far_as_it_is_known():
    known = {"image_size": 224, "crop_fraction": 1.0, "interpolation": "bilinear"}
    plain = describe_input(known | {"mean": [0.0] * 3, "std": [1.0] * 3})
    assert plain == "224 × 224 pixels (bilinear); values from 0 to 1"
    assert describe_input({"image_size": 224}) == "224 × 224 pixels"  # of an earlier version


def test_names_stay_whole_and_markup_is_escaped():
    names = ["a", "vit-b", "vit-b-16", "<b>", "x-" * 17]
    assert keep_whole("vit-b-16 <i> a vit-b, <b> has 5 %", names) == (
        '<span class="whole">vit-b-16</span> &lt;i&gt; a <span class="whole">vit-b</span>, '
        '<span class="whole">&lt;b&gt;</span> has 5\xa0%'
    )
    assert "span" not in keep_whole(f"my-vit-b {'x-' * 17} vit-base", names)
    assert keep_whole("5 %", ["a"]) == "5\xa0%"


@pytest.mark.parametrize("name", ["test/accuracy", "test_accuracy", "accuracy"])
def test_the_accuracy_of_a_model_is_that_on_test_images(name):
    metrics = {"train/accuracy": 1.0, "validation/accuracy": 0.9, name: 0.8, "loss": 0.1}
    assert FILTERS["accuracy"](metrics) == 0.8
    assert FILTERS["accuracy"]({"train/accuracy": 1.0, "validation/accuracy": 0.9}) is None
