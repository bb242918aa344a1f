"""Grids of pictures: every cell shows its own picture, and nothing is cut off or covered."""

import numpy as np
import pytest
from matplotlib.colors import Normalize

from tests.analyses.cells import cell, column_labels, row_labels
from tests.figures.test_style import assert_legible, draw
from zoo.figures import style
from zoo.figures.image_grid import ImageGrid, enlarge_map, image_grid


def grid(rows: int, columns: int, name: str = "blocks.{}", **options) -> ImageGrid:
    random = np.random.default_rng(0)
    pictures = [
        [random.integers(255, size=(8, 8, 3), dtype=np.uint8), *random.random((columns - 1, 4, 4))]
        for _ in range(rows)
    ]
    return image_grid(
        pictures,
        row_labels=[f"class number {i}" for i in range(rows)],
        column_labels=["input", *(name.format(i) for i in range(columns - 1))],
        **options,
    )


@pytest.mark.parametrize("name", ["blocks.{}", "layer{}.1.downsample.conv", "a\nb{}"])
@pytest.mark.parametrize("columns", [2, 12])
@pytest.mark.parametrize("scale", [None, Normalize(0, 1)])
def test_image_grids_are_legible_and_fit_the_page(columns: int, name: str, scale):
    label = "a rather long name of what is measured (unit)"
    foot = "Grad-CAM: over each map's highest value; outlined: from half of it"
    drawn = grid(6, columns, name, norm=scale, bar_label=label, foot=foot)
    assert drawn.figure.get_size_inches()[0] <= style.WIDTH + 1e-6
    assert len(column_labels(drawn.figure)) == columns
    assert_legible(drawn.figure)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_name_of_a_low_colour_bar_is_not_cut_off(rows: int):
    label = "attention rollout: a patch's share over an even share (1: even)"
    assert_legible(grid(rows, 4, norm=Normalize(0, 1), bar_label=label).figure)


def test_every_cell_shows_its_own_picture():
    pictures = np.arange(6 * 48, dtype=np.uint8).reshape(2, 3, 4, 4, 3)
    figure = image_grid(
        list(map(list, pictures)), row_labels=["a", "b"], column_labels=["x", "y", "z"]
    ).figure
    assert row_labels(figure) == ["a", "b"]
    for i in range(2):
        for j in range(3):
            shown = cell(figure, i, j)
            assert np.array_equal(shown[0, 0, :3], pictures[i, j, 0, 0])
            assert np.array_equal(shown[-1, -1, :3], pictures[i, j, 3, 3])
            assert shown[0, 0, 3] == 255


def test_numbers_get_the_colours_of_their_own_range_or_of_the_shared_one():
    ramp = np.tile([0.0, 1.0], (2, 1))
    maps = [[ramp, ramp / 2]]
    dark, bright = (68, 1, 84), (253, 231, 36)  # the ends of viridis
    own, shared = (
        image_grid(maps, row_labels=["a"], column_labels=["x", "y"], norm=norm).figure
        for norm in (None, Normalize(0, 1))
    )
    assert tuple(cell(own, 0, 1)[0, 0, :3]) == tuple(cell(shared, 0, 1)[0, 0, :3]) == dark
    assert tuple(cell(own, 0, 1)[0, -1, :3]) == bright
    assert tuple(cell(shared, 0, 0)[0, -1, :3]) == bright
    assert tuple(cell(shared, 0, 1)[0, -1, :3]) != bright


def test_places_are_where_the_cells_are():
    drawn = grid(3, 4)
    x, y = drawn.place(2, 1)
    whole = drawn.axis.images[0].get_array()
    part = whole[y : y + drawn.cell[0], x : x + drawn.cell[1]]
    assert np.array_equal(part, cell(drawn.figure, 2, 1))
    assert drawn.axis.get_ylim() == (whole.shape[0], 0)


def test_empty_cells_stay_empty_and_missing_numbers_are_hatched():
    values = np.array([[0.0, np.nan], [1.0, 2.0]])
    figure = image_grid(
        [[values, None], [values]], row_labels=["a", "b"], column_labels=["input", "map"]
    ).figure
    assert (cell(figure, 0, 1)[..., 3] == 0).all()
    assert (cell(figure, 1, 1)[..., 3] == 0).all()
    height, width = cell(figure, 0, 0).shape[:2]
    clear = cell(figure, 0, 0)[..., 3] == 0
    assert clear[0, -1]
    assert clear.mean() == pytest.approx(0.25, abs=2 / min(height, width))
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["xxxxx"] * 2


def test_marks_at_the_colour_bar_are_those_asked_for():
    figure = grid(2, 3, norm=Normalize(0, 4), bar_label="share", ticks=[0.25, 1, 4]).figure
    draw(figure)
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == ["0.25", "1", "4"]


@pytest.mark.parametrize("side", [2, 8, 14])
def test_maps_of_few_cells_are_enlarged_in_squares_and_others_smoothly(side: int):
    values = np.random.default_rng(0).random((side, side))
    grown = enlarge_map(values, 112, 112)
    assert grown.shape == (112, 112)
    assert grown.min() >= values.min() - 1e-6
    assert grown.max() <= values.max() + 1e-6
    squares = values.repeat(112 // side, axis=0).repeat(112 // side, axis=1)
    assert np.allclose(grown, squares) == (side <= 8)
    assert grown[::16, ::16].std() > 0.1
