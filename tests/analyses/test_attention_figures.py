"""Attention figures, drawn from arrays alone."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm

from tests.analyses.cells import cell, column_labels
from zoo.analyses import attention_maps
from zoo.analyses.attention_figures import colour_range, enlarge, overlay, relative_share
from zoo.study.results import Array, Result, Scale


def found(*names: str, layers: int = 3, images: int = 2) -> Result:
    """A result with random maps of 4×4 patches and two heads."""
    random = np.random.default_rng(0)
    arrays, labels = {}, {"image": tuple(f"image {i}" for i in range(images))}
    for name in names:
        pixels = random.integers(256, size=(images, 16, 16, 3), dtype=np.uint8)
        entropy = random.uniform(0.2, 1, (layers, 2))
        arrays |= {
            f"images/{name}": Array(pixels, ("image", "y", "x", "channel")),
            f"rollout/{name}": Array(
                random.uniform(size=(images, layers, 4, 4)), ("image", "layer", "row", "column")
            ),
            f"heads/{name}": Array(
                random.uniform(size=(images, 2, 4, 4)), ("image", "head", "row", "column")
            ),
            f"normalised_entropy/{name}": Array(entropy, ("layer", "head")),
        }
        labels[f"layer[{name}]"] = tuple(f"blocks.{i}.attn" for i in range(layers))
    shares = {"rollout": Scale("", 0.25, 2.5, log=True), "heads": Scale("", 0.5, 4.0, log=True)}
    return Result(names, arrays, {}, labels, scales=shares)


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
    figures = attention_maps.draw(result)
    assert set(figures) == {
        "attention-maps-a",
        "attention-maps-a-heads",
        "attention-maps-b",
        "attention-maps-b-heads",
        "attention-maps-entropy",
    }
    assert column_labels(figures["attention-maps-a"]) == ["input", "layer 1", "layer 2", "layer 3"]
    assert column_labels(figures["attention-maps-a-heads"]) == ["input", "head 1", "head 2"]
    shares, scale = result.arrays["rollout/a"].values, LogNorm(0.25, 2.5, clip=True)
    expected = overlay(result.arrays["images/a"].values[1], shares[1, 2], scale)
    drawn = cell(figures["attention-maps-a"], 1, 3)
    # A cell is a little smaller than the map that it shows.
    assert np.abs(drawn[::16, ::16, :3].astype(int) - expected[4::17, 4::17][:8, :8]).mean() < 30
    lines = figures["attention-maps-entropy"].axes[0].lines
    entropy = result.arrays["normalised_entropy/b"].values
    np.testing.assert_allclose(lines[1].get_ydata(), entropy.mean(axis=1))


def test_deep_networks_are_drawn_with_twelve_of_their_layers():
    figure = attention_maps.draw(found("a", layers=15))["attention-maps-a"]
    assert len(column_labels(figure)) == 13
    assert column_labels(figure)[1] == "layer 1"
    assert column_labels(figure)[-1] == "layer 15"
    assert figure.get_size_inches()[0] <= 7.01
