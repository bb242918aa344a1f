"""Frequencies against NumPy's transform in two dimensions, written out."""

import itertools

import numpy as np
import pytest
import torch

from zoo.measures.frequency import (
    band_noise,
    band_pass,
    half_diagonal,
    hybrid_images,
    radii,
    relative_log_amplitudes,
)


def tokens(maps):
    """Maps (n, channels, side, side) as places (n, side · side, channels)."""
    return torch.as_tensor(maps, dtype=torch.float32).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("side", [2, 4, 5, 7, 14])
def test_amplitudes_are_those_of_the_whole_transform(side):
    maps = np.random.default_rng(side).normal(1, 1, size=(3, 6, side, side)).astype(np.float32)
    curves, left_out = relative_log_amplitudes(tokens(maps), side)
    spectrum = np.log(np.abs(np.fft.fft2(maps.astype(np.float64))))
    steps = np.arange(side // 2 + 1)
    expected = (spectrum[..., steps, steps] - spectrum[..., :1, 0]).mean(axis=1)
    assert np.allclose(curves, expected, atol=1e-4)
    assert left_out.tolist() == [0, 0, 0]
    assert len(half_diagonal(side)) == curves.shape[1]


def test_a_wave_stands_at_its_own_frequency():
    y, x = np.mgrid[:8, :8]
    for k in range(1, 5):
        noise = np.random.default_rng(k).normal(0, 1e-3, size=(8, 8))
        wave = 1 + np.cos(2 * np.pi * k * (x + y) / 8) + noise
        curve = relative_log_amplitudes(tokens(wave[None, None]), 8)[0][0]
        assert curve[1:].argmax() == k - 1
        assert half_diagonal(8)[k] == k / 4


def test_scale_changes_nothing_and_smoothing_lowers_high_frequencies():
    maps = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    curve = relative_log_amplitudes(tokens(maps), 8)[0]
    assert torch.allclose(relative_log_amplitudes(tokens(100 * maps), 8)[0], curve, atol=1e-4)
    smooth = (maps + maps.roll(1, 2) + maps.roll(1, 3) + maps.roll((1, 1), (2, 3)))[:, :, :, :]
    blurred = relative_log_amplitudes(tokens(smooth + 1e-3 * maps), 8)[0]
    assert (blurred[:, -1] < curve[:, -1] - 2).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_in_half_precision_have_the_curves_of_their_values(dtype):
    generator = torch.Generator().manual_seed(0)
    coarse = 400 * torch.randn(4, 8, 3, 3, generator=generator) + 300
    maps = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")
    places = tokens(maps).to(dtype)
    curves, left_out = relative_log_amplitudes(places, 32)
    expected, none = relative_log_amplitudes(places.float(), 32)
    assert torch.equal(curves, expected)
    assert torch.equal(left_out, none)
    assert left_out.max() == 0


def test_constant_channels_are_left_out_and_counted():
    maps = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    maps[0, 1], maps[0, 2], maps[1] = 0, 0.3, 7
    curves, left_out = relative_log_amplitudes(tokens(maps), 6)
    assert left_out.tolist() == [0.5, 1]
    alone = relative_log_amplitudes(tokens(maps[:1, [0, 3]]), 6)[0]
    assert torch.allclose(curves[:1], alone)
    assert curves[1].isnan().all()


def test_places_must_fill_the_grid():
    with pytest.raises(ValueError, match="expected 16 places, got 17"):
        relative_log_amplitudes(torch.zeros(1, 17, 3), 4)


def test_radius_is_0_at_the_mean_and_1_in_the_corner():
    radius = radii(8, 8)
    assert radius[0, 0] == 0
    assert radius[4, 4] == radius.max() == 1
    assert radius[0, 4] == pytest.approx(1 / np.sqrt(2))
    assert np.allclose(radius.diagonal()[:5], half_diagonal(8))


def test_bands_add_up_to_the_images_and_share_no_energy():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    edges = [0, 0.2, 0.5, 0.9, 2]
    bands = [band_pass(images, a, b) for a, b in itertools.pairwise(edges)]
    assert torch.allclose(sum(bands), images, atol=1e-6)
    assert torch.allclose(sum(b.square().sum() for b in bands), images.square().sum(), rtol=1e-5)


def test_noise_holds_its_band_alone_at_one_strength():
    for low, high in ((0.1, 0.2), (0.5, 0.6), (0.9, 2)):
        noise = band_noise((4, 3, 16, 16), low, high, deviation=0.1, seed=0)
        power = np.abs(np.fft.fft2(noise.numpy())) ** 2
        u = np.minimum(np.arange(16), 16 - np.arange(16)) / 8
        radius = np.sqrt((u[:, None] ** 2 + u**2) / 2)
        inside = (radius >= low) & (radius < high)
        assert power[..., ~inside].max() < 1e-8 * power[..., inside].max()
        assert np.allclose(noise.square().mean(dim=(1, 2, 3)).sqrt(), 0.1)
        assert torch.equal(noise, band_noise((4, 3, 16, 16), low, high, deviation=0.1, seed=0))
    with pytest.raises(ValueError, match=r"no frequency of 4 × 4 lies in 0.1 to 0.2"):
        band_noise((1, 3, 4, 4), 0.1, 0.2, deviation=0.1, seed=0)


def test_a_hybrid_is_all_of_one_image_at_either_end():
    a, b = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(hybrid_images(a, b, 2), a, atol=1e-6)
    assert torch.allclose(hybrid_images(a, b, 0), b, atol=1e-6)
    mixed = hybrid_images(a, b, 0.5)
    assert torch.allclose(mixed.mean(dim=(2, 3)), a.mean(dim=(2, 3)), atol=1e-6)
    assert torch.allclose(band_pass(mixed, 0.5, 2), band_pass(b, 0.5, 2), atol=1e-6)
