"""Frequencies of feature maps and images: which of them a layer keeps, and which a network uses.

A frequency is normalised: 0 is the mean, and 1 the highest that a grid can hold, in both
directions. On the half-diagonal the frequency (k, k) of a grid of `side` places is 2k/side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

# Below this share of the sum of a map's absolute values, an amplitude is float32 rounding.
RESOLVED = 1e-7


def half_diagonal(side: int) -> NDArray[np.float64]:
    """Return the normalised frequencies (side // 2 + 1,) along a grid's half-diagonal.

    >>> half_diagonal(4).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.arange(side // 2 + 1) * 2 / side


def relative_log_amplitudes(places: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how strong each frequency of a layer's feature maps is, relative to their mean.

    Args:
        places: (n, side · side, channels) a layer's output for n images, row by row.
        side: places along a side of the grid.

    Returns:
        (n, side // 2 + 1): log|F(k, k)| − log|F(0, 0)| with the natural logarithm, averaged over
        channels, at the frequencies of `half_diagonal`; NaN where no channel is left. And (n,)
        the share of channels left out, since one of their amplitudes is 0 up to rounding: those
        that are constant over the grid, such as a dead ReLU's.

    Raises:
        ValueError: the places do not fill the grid.

    Source: Park & Kim 2022, Figs 2a and 8. Their notebook stops one step before the highest
    frequency of an even grid, and calls that one 1.
    """
    if places.shape[1] != side * side:
        raise ValueError(f"expected {side * side} places, got {places.shape[1]}")
    # In half precision, sums over places would round more than the highest frequencies hold.
    places = places.to(torch.promote_types(places.dtype, torch.float32))
    # F(k, k) sees a place (row, column) by row + column alone, so that one transform of the sums
    # over anti-diagonals gives the half-diagonal of the transform in two dimensions.
    row, column = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    sums = torch.zeros(side, side * side, dtype=places.dtype, device=places.device)
    sums[(row + column) % side, torch.arange(side * side)] = 1
    amplitudes = torch.fft.rfft((sums @ places).float(), dim=1).abs()
    kept = amplitudes.amin(dim=1) > RESOLVED * places.abs().sum(dim=1)
    logs = torch.where(kept[:, None], amplitudes, 1).log()
    curves = (logs - logs[:, :1]).sum(dim=2) / kept.sum(dim=1, keepdim=True)
    return curves, 1 - kept.float().mean(dim=1)


def radii(height: int, width: int) -> torch.Tensor:
    """Return the normalised frequency (height, width) of each entry of a transform, as a radius.

    √((u² + v²) / 2) with u and v 1 at the highest frequency of each direction: on the diagonal it
    is the frequency of `half_diagonal`, and the corner has 1.
    """
    u, v = 2 * torch.fft.fftfreq(height), 2 * torch.fft.fftfreq(width)
    return torch.sqrt((u[:, None] ** 2 + v**2) / 2)


def band_pass(images: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return images (…, height, width) with the frequencies low <= radius < high alone.

    Bands that meet add up to the images; `high` above 1 holds the corner as well.
    """
    radius = radii(*images.shape[-2:]).to(images.device)
    # Half precision has no Fourier transform.
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    spectrum = torch.fft.fft2(exact) * ((low <= radius) & (radius < high))
    return torch.fft.ifft2(spectrum).real.to(images.dtype)


def band_noise(
    shape: tuple[int, ...], low: float, high: float, *, deviation: float, seed: int
) -> torch.Tensor:
    """Return Gaussian noise that is limited to a band of frequencies.

    Args:
        shape: (n, channels, height, width).
        low: the lowest radius of the band.
        high: the first radius above it.
        deviation: root mean square of every image's noise, the same for all bands.
        seed: of the noise.

    Returns:
        float32 noise of that shape.

    Raises:
        ValueError: a band that holds no frequency of such images.

    Source: Park & Kim 2022, Fig. 2b, where narrow bands are also weak: their noise is not scaled.
    """
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    noise = band_pass(noise, low, high)
    root = noise.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    if not (root > 0).all():
        raise ValueError(f"no frequency of {shape[-2]} × {shape[-1]} lies in {low:g} to {high:g}")
    return noise * (deviation / root)


def hybrid_images(low: torch.Tensor, high: torch.Tensor, cut: float) -> torch.Tensor:
    """Return images with one's frequencies below a radius and another's from there on.

    Args:
        low: (n, channels, height, width), whose mean is kept as well.
        high: the same shape.
        cut: the radius.

    Source: Oliva, Torralba & Schyns 2006, with a sharp cut.
    """
    return band_pass(low, 0, cut) + band_pass(high, cut, math.inf)
