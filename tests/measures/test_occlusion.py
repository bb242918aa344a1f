"""Dropped patches and shuffled tiles, by hand."""

import pytest
import torch

from zoo.measures.occlusion import drop_patches, random_order, shuffle_tiles


def numbered(n=2, side=8):
    return torch.arange(n * 3 * side * side, dtype=torch.float32).view(n, 3, side, side)


def test_the_first_patches_of_an_order_get_the_fill_and_nothing_else_changes():
    pixels, fill = numbered(), torch.tensor([-1.0, -2.0, -3.0])
    order = torch.stack([torch.arange(16), torch.arange(16).flip(0)])
    found = drop_patches(pixels, order, 3 / 16, grid=(4, 4), fill=fill)
    for n, gone in enumerate([(0, 1, 2), (15, 14, 13)]):
        for patch in range(16):
            y, x = 2 * (patch // 4), 2 * (patch % 4)
            part = found[n, :, y : y + 2, x : x + 2]
            expected = fill.view(3, 1, 1).expand(3, 2, 2)
            before = pixels[n, :, y : y + 2, x : x + 2]
            assert torch.equal(part, expected if patch in gone else before)
    assert torch.equal(drop_patches(pixels, order, 0, grid=(4, 4), fill=fill), pixels)
    assert (drop_patches(pixels, order, 1, grid=(4, 4), fill=fill) == fill.view(1, 3, 1, 1)).all()


def test_patches_of_sides_that_do_not_divide_cover_the_image():
    pixels = numbered(1, 10)
    order = torch.arange(9)[None]
    fill = torch.full((3,), -1.0)
    gone = [
        (drop_patches(pixels, order.roll(-k, 1), 1 / 9, grid=(3, 3), fill=fill) == -1).all(dim=1)
        for k in range(9)
    ]
    assert (sum(g.int() for g in gone) == 1).all()
    assert {int(g.sum()) for g in gone} == {9, 12, 16}


def test_patches_of_a_grid_that_is_not_square_lie_row_by_row():
    pixels, order = numbered(1), torch.arange(16)[None]  # patches of 4 × 1 pixels
    found = drop_patches(pixels, order, 9 / 16, grid=(2, 8), fill=torch.full((3,), -1.0))
    gone = torch.zeros(8, 8, dtype=torch.bool)
    gone[:4], gone[4:, 0] = True, True
    assert torch.equal((found[0] == -1).all(dim=0), gone)


def test_shuffling_moves_whole_tiles_and_keeps_them():
    pixels = numbered(5)
    found = shuffle_tiles(pixels, 4, seed=0)

    def tiles(image):
        return [image[:, y : y + 2, x : x + 2] for y in range(0, 8, 2) for x in range(0, 8, 2)]

    for before, after in zip(pixels, found, strict=True):
        keys = [tile.flatten().tolist() for tile in tiles(after)]
        assert sorted(keys) == sorted(tile.flatten().tolist() for tile in tiles(before))
    assert not torch.equal(found, pixels)
    assert torch.equal(shuffle_tiles(pixels, 1, seed=0), pixels)
    orders = found[:, 0] - pixels[:, 0, :1, :1]
    assert not torch.equal(orders[0], orders[1])  # another order for each image


def test_orders_hold_every_place_once_and_repeat_for_a_seed():
    order = random_order(50, 9, seed=1)
    assert (order.sort(dim=1).values == torch.arange(9)).all()
    assert torch.equal(order, random_order(50, 9, seed=1))
    assert not torch.equal(order, random_order(50, 9, seed=2))


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="tiles that divide 8 × 8 pixels, got 3"):
        shuffle_tiles(numbered(), 3, seed=0)
