"""Attention figures, drawn from arrays alone."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm

from tests.analyses.cells import cell, column_labels
from tests.labelled import figures, values
from zoo.analyses import attention_maps
from zoo.analyses.attention_figures import colour_range, enlarge, overlay, relative_share
from zoo.study.axes import Scale, column, variable
from zoo.study.results import Part, Result


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
    of = {"network": ("layer", np.repeat(names, layers))}
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


def test_an_overlay_is_bright_where_the_map_is_and_follows_the_image():
    black = np.zeros((8, 8, 3), np.uint8)
    shares = np.array([[4.0, 0.25], [0.25, 0.25]])
    norm = LogNorm(0.25, 4.0, clip=True)
    drawn = overlay(black, shares, norm).astype(int)
    assert drawn.shape == (128, 128, 3)
    assert drawn[8, 8].sum() > drawn[100, 100].sum() + 100
    white = overlay(black + 255, shares, norm).astype(int)
    assert (white - drawn).min() > 50
    assert enlarge(black[:4]).shape == (64, 128, 3)


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
    shares, scale = values(result, "rollout", "a"), LogNorm(0.25, 2.5, clip=True)
    expected = overlay(values(result, "images", "a")[1], shares[1, 2], scale)
    found_cell = cell(drawn["attention-maps-a"], 1, 3)
    # A cell is a little smaller than the map that it shows.
    assert (
        np.abs(found_cell[::16, ::16, :3].astype(int) - expected[4::17, 4::17][:8, :8]).mean() < 30
    )
    lines = drawn["attention-maps-entropy"].axes[0].lines
    entropy = values(result, "normalised_entropy", "b")
    np.testing.assert_allclose(lines[1].get_ydata(), entropy.mean(axis=1))


def test_deep_networks_are_drawn_with_twelve_of_their_layers():
    figure = figures(attention_maps.draw(found("a", layers=15), ["a"]))["attention-maps-a"]
    assert len(column_labels(figure)) == 13
    assert column_labels(figure)[1] == "layer 1"
    assert column_labels(figure)[-1] == "layer 15"
    assert figure.get_size_inches()[0] <= 7.01
