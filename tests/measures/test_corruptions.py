"""Corruptions against their formulas, written out for one pixel or by another library."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.measures.corruptions import CONSTANTS, STRENGTHS, corrupt

IMAGES = np.random.default_rng(0).integers(0, 256, size=(3, 32, 32, 3), dtype=np.uint8)
LARGE = np.random.default_rng(1).integers(60, 190, size=(2, 64, 80, 3), dtype=np.uint8)


def test_noise_has_its_deviation_and_is_the_same_for_a_seed():
    grey = np.full((4, 64, 64, 3), 128, dtype=np.uint8)
    for strength, deviation in ((1, 0.08), (3, 0.18)):
        found = corrupt(grey, "gaussian noise", strength, seed=3) / 255
        assert found.std() == pytest.approx(deviation, rel=0.03)
    assert (corrupt(grey[:, :32], "gaussian noise", 5) / 255).std() == pytest.approx(0.1, rel=0.03)
    first = corrupt(IMAGES, "gaussian noise", 1, seed=0)
    assert np.array_equal(first, corrupt(IMAGES, "gaussian noise", 1, seed=0))
    assert not np.array_equal(first, corrupt(IMAGES, "gaussian noise", 1, seed=1))


@pytest.mark.parametrize(("images", "strength", "sigma"), [(IMAGES, 5, 1.0), (LARGE, 2, 2.0)])
def test_blur_is_a_sum_over_a_kernel(images, strength, sigma):
    reach = int(4 * sigma + 0.5)
    kernel = torch.exp(
        -(torch.arange(-reach, reach + 1.0, dtype=torch.float64) ** 2) / 2 / sigma**2
    )
    kernel /= kernel.sum()
    x = torch.as_tensor(images / 255).permute(0, 3, 1, 2)
    x = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate")
    both = (kernel[:, None] * kernel)[None, None].expand(3, 1, -1, -1)
    expected = torch.nn.functional.conv2d(x, both, groups=3).permute(0, 2, 3, 1) * 255
    assert (
        np.abs(corrupt(images, "gaussian blur", strength) - np.floor(expected.numpy())).max() <= 1
    )


def test_contrast_keeps_a_share_of_the_distance_from_each_channels_mean():
    found = corrupt(IMAGES, "contrast", 2)
    mean = IMAGES[1, :, :, 2].mean()
    expected = (IMAGES[1, 5, 6, 2] - mean) * 0.5 + mean
    assert found[1, 5, 6, 2] == int(expected)
    assert np.ptp(corrupt(LARGE, "contrast", 5).astype(int)) <= 0.05 * 130 + 6


def test_pixelate_averages_boxes():
    found = corrupt(LARGE[:, :, :64], "pixelate", 2)  # half of the pixels: boxes of 2 × 2
    boxes = LARGE[:, :, :64].reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    expected = boxes.repeat(2, axis=1).repeat(2, axis=2)
    assert np.abs(found - expected).max() <= 1


def test_jpeg_is_what_a_file_of_that_quality_holds():
    file = io.BytesIO()
    Image.fromarray(IMAGES[2]).save(file, "JPEG", quality=58)
    assert np.array_equal(corrupt(IMAGES, "jpeg", 3)[2], np.asarray(Image.open(file)))
    assert not np.array_equal(corrupt(IMAGES, "jpeg", 3)[2], corrupt(IMAGES, "jpeg", 4)[2])


@pytest.mark.parametrize("corruption", CONSTANTS)
def test_more_strength_changes_more_and_the_shape_stays(corruption):
    for images in (IMAGES, LARGE):
        before = images.copy()
        found = [corrupt(images, corruption, strength).astype(int) for strength in STRENGTHS]
        changes = [np.abs(f - images).mean() for f in found]
        assert all(f.shape == images.shape for f in found)
        assert changes == sorted(changes)
        assert changes[0] < changes[-1]
        assert np.array_equal(images, before)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="expected a corruption of gaussian noise, gaussian blur"):
        corrupt(IMAGES, "fog", 1)
    with pytest.raises(ValueError, match="expected a strength from 1 to 5, got 0"):
        corrupt(IMAGES, "jpeg", 0)
