"""Deletion curves against networks whose probabilities are known."""

import numpy as np
import torch

from zoo.measures.deletion import (
    area_under,
    deletion_curves,
    rank_pixels,
    upsample,
)


def brightness(pixels):
    """A network whose probability of class 0 is the mean brightness of the upper half."""
    upper = pixels[:, :, : pixels.shape[2] // 2].mean(dim=(1, 2, 3))
    return torch.stack([upper, 1 - upper], dim=1)


def test_deletion_falls_by_what_the_map_marks():
    pixels = torch.zeros(1, 3, 4, 5)
    pixels[:, :, :2] = 1  # mean 0.5; each upper pixel removed takes 0.5 / 10
    good = torch.arange(20.0, 0, -1).view(1, 4, 5)
    both = {"good": good, "late": -good}
    curve, late = deletion_curves(brightness, pixels, both, torch.tensor([0])).values()
    expected = [1 - 0.05 * min(2 * step, 10) for step in range(11)]
    assert np.allclose(curve[0], expected)
    expected = [1 - 0.05 * max(0, 2 * step - 10) for step in range(11)]
    assert np.allclose(late[0], expected)
    assert area_under(curve) < area_under(late)
    other = deletion_curves(brightness, pixels, {"good": good}, torch.tensor([1]))
    assert np.allclose(other["good"], 1 - curve)


def test_a_removed_pixel_gets_its_images_mean_colour_and_nothing_else_changes():
    pixels = torch.rand(2, 3, 4, 4)
    original, seen = pixels.clone(), []

    def predict(x):
        seen.append(x.clone())
        return torch.ones(2, 2) / 2

    maps = torch.rand(2, 4, 4)
    deletion_curves(predict, pixels, {"map": maps}, torch.tensor([0, 1]), steps=4)
    assert torch.equal(pixels, original)
    assert len(seen) == 5
    for step, x in zip((0, 4, 1, 2, 3), seen, strict=True):
        for n in range(2):
            top = maps[n].flatten().argsort(descending=True)[: 4 * step]
            expected = original[n].flatten(1).clone()
            expected[:, top] = original[n].flatten(1).mean(dim=1, keepdim=True)
            assert torch.allclose(x[n].flatten(1), expected)


def test_the_area_is_the_trapezium_rule():
    curves = torch.rand(5, 11, dtype=torch.float64)
    expected = np.trapezoid(curves.numpy(), np.linspace(0, 1, 11), axis=1)
    assert np.allclose(area_under(curves), expected)


def test_equal_pixels_are_ranked_in_a_random_but_repeatable_order():
    maps = torch.zeros(1, 8, 8)
    maps[0, 5, 5] = 1
    first = rank_pixels(maps, seed=0)[0]
    assert first[0] == 5 * 8 + 5
    assert sorted(first.tolist()) == list(range(64))
    rest = first[1:].tolist()
    assert abs(np.corrcoef(rest, range(63))[0, 1]) < 0.5
    assert torch.equal(first, rank_pixels(maps, seed=0)[0])
    assert not torch.equal(first, rank_pixels(maps, seed=1)[0])


def test_upsampling_keeps_places_and_constants():
    assert torch.allclose(upsample(torch.full((1, 2, 2), 3.0), 6, 6), torch.tensor(3.0))
    grown = upsample(torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]), 8, 8)[0]
    assert grown[-1, -1] == 1
    assert grown[:2].max() == 0
