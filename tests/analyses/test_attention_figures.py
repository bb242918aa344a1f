"""Attention figures, drawn from arrays alone."""

from __future__ import annotations

import numpy as np
import xarray as xr
from PIL import Image

from tests.analyses.cells import cell, column_labels
from tests.labelled import figures, values
from zoo.analyses import attention_maps
from zoo.analyses.attention_figures import colour_range, overlay, relative_share
from zoo.figures.seen_through import seen_through
from zoo.study.axes import Scale, column, head_counts, variable
from zoo.study.results import TRAINED, Part, Result


def found(*names: str, layers: int = 3, images: int = 2) -> Result:
    """A result with random maps of 4×4 patches and two heads."""
    random = np.random.default_rng(0)
    shares = {"layer": Scale("", 0.25, 2.5, log=True), "head": Scale("", 0.5, 4.0, log=True)}
    parts = []
    for name in names:
        pixels = random.integers(256, size=(images, 16, 16, 3), dtype=np.uint8)
        variables = {"images": variable(("image", "pixel_row", "pixel_column", "colour"), pixels)}
        for what, along, count in (("rollout", "layer", layers), ("heads", "head", 2)):
            maps = random.uniform(size=(images, count, 4, 4))
            variables[what] = variable(("image", along, "row", "column"), maps, scale=shares[along])
        labels = {"image": column([f"image {i}" for i in range(images)])}
        parts.append(Part(name, xr.Dataset(variables, labels)))
    entropy = variable(("layer", "head"), random.uniform(0.2, 1, (layers * len(names), 2)))
    rows = np.repeat(names, layers)
    of = dict.fromkeys(("network", "model"), ("layer", rows))
    of |= {"state": ("layer", np.full(len(rows), TRAINED))} | head_counts([2] * len(rows))
    return Result(xr.Dataset({"normalised_entropy": entropy}, of), tuple(parts))


def test_relative_share_is_one_for_even_maps_and_keeps_zeros():
    maps = np.stack([np.full((2, 2), 0.2), np.zeros((2, 2)), np.array([[3.0, 1.0], [0, 0]])])
    expected = [np.ones((2, 2)), np.zeros((2, 2)), [[3.0, 1.0], [0, 0]]]
    np.testing.assert_allclose(relative_share(maps), expected)


def test_even_maps_do_not_get_their_rounding_coloured():
    low, high = colour_range(np.array([1 - 1e-7, 1.0, 1 + 1e-7]))
    assert low < 0.92
    assert high > 1.09


def test_the_colour_range_holds_all_but_the_most_extreme_shares():
    shares = np.concatenate([np.full(500, 0.5), np.full(499, 4.0), [1000.0]])
    assert colour_range(shares) == (0.5, 4.0)
    assert colour_range(np.array([np.nan])) == colour_range(np.array([1.0]))


def test_patches_of_more_than_half_over_an_even_share_are_outlined():
    image, shares = np.zeros((8, 8, 3), np.uint8), np.array([[1.6, 1.4], [1.0, 0.6]])
    drawn = overlay(image, shares, 0.5, 2.0)
    strength = (np.log(shares) - np.log(0.5)) / np.log(4)
    assert np.array_equal(drawn, seen_through(image, strength, strength[0, :2].mean()))
    # No share of the study reaches it: nothing is outlined.
    assert np.array_equal(overlay(image, np.full((2, 2), 1.2), 0.8, 1.2)[0, 0], image[0, 0])


def test_figures_are_drawn_from_the_arrays_alone():
    result = found("a", "b")
    drawn = figures(attention_maps.draw(result, ["a", "b"]))
    assert set(drawn) == {
        "attention-maps-a",
        "attention-maps-a-heads",
        "attention-maps-b",
        "attention-maps-b-heads",
        "attention-maps-entropy",
    }
    assert column_labels(drawn["attention-maps-a"]) == ["input", "layer 1", "layer 2", "layer 3"]
    assert column_labels(drawn["attention-maps-a-heads"]) == ["input", "head 1", "head 2"]
    shares = values(result, "rollout", "a")
    expected = overlay(values(result, "images", "a")[1], shares[1, 2], 0.25, 2.5)
    found_cell = cell(drawn["attention-maps-a"], 1, 3)[..., :3]
    # A cell is a little smaller than the map that it shows.
    size = found_cell.shape[1::-1]
    smaller = np.asarray(Image.fromarray(expected).resize(size, Image.Resampling.BOX))
    assert np.abs(found_cell.astype(int) - smaller).mean() < 2
    lines = drawn["attention-maps-entropy"].axes[0].lines
    entropy = values(result, "normalised_entropy", "b")
    np.testing.assert_allclose(lines[1].get_ydata(), entropy.mean(axis=1))


def test_deep_networks_are_drawn_with_five_of_their_layers():
    figure = figures(attention_maps.draw(found("a", layers=15), ["a"]))["attention-maps-a"]
    layers = [f"layer {number}" for number in (1, 5, 8, 11, 15)]
    assert column_labels(figure) == ["input", *layers]
    assert figure.get_size_inches()[0] <= 7.01
