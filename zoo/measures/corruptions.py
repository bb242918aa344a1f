"""Common corruptions of images at five strengths, by their published formulas.

Hendrycks & Dietterich 2019, with the constants of their code: those of CIFAR-10-C for images
under 64 pixels, those of ImageNet-C for larger ones. Values are cut to whole numbers, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]
LARGE = 64  # pixels along a side, from which ImageNet-C's constants hold
STRENGTHS = (1, 2, 3, 4, 5)
# The constants of (CIFAR-10-C, ImageNet-C): deviation of the noise, deviation of the kernel in
# pixels, share of the contrast that is left, share of the pixels that is left, JPEG quality.
CONSTANTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "gaussian noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "gaussian blur": ((0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
WORDS = {  # as titles and sentences name them
    "gaussian noise": "Gaussian noise",
    "gaussian blur": "Gaussian blur",
    "contrast": "lower contrast",
    "pixelate": "pixelation",
    "jpeg": "JPEG compression",
}


def corrupt(images: Images, corruption: str, strength: int, *, seed: int = 0) -> Images:
    """Return corrupted images.

    Args:
        images: (n, height, width, 3).
        corruption: one of `CONSTANTS`.
        strength: 1 to 5.
        seed: of the noise; the others are not random.

    Raises:
        ValueError: another corruption or strength.

    Source: Hendrycks & Dietterich 2019; constants from `make_cifar_c.py` and `imagenet_c` of
    github.com/hendrycks/robustness.
    """
    if corruption not in CONSTANTS:
        raise ValueError(f"expected a corruption of {', '.join(CONSTANTS)}, got {corruption!r}")
    if strength not in STRENGTHS:
        raise ValueError(f"expected a strength from 1 to 5, got {strength}")
    large = min(images.shape[1:3]) >= LARGE
    constant = CONSTANTS[corruption][large][strength - 1]
    if corruption == "gaussian noise":
        noise = np.random.default_rng(seed).normal(scale=constant, size=images.shape)
        return _whole(images / 255 + noise)
    return CHANGES[corruption](images, constant)


def _whole(values: NDArray[np.float64]) -> Images:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def _blur(images: Images, deviation: float) -> Images:
    from scipy.ndimage import gaussian_filter

    sides = (0, deviation, deviation, 0)
    return _whole(gaussian_filter(images / 255, sides, mode="nearest", truncate=4))


def _contrast(images: Images, left: float) -> Images:
    values = images / 255
    mean = values.mean(axis=(1, 2), keepdims=True)
    return _whole((values - mean) * left + mean)


def _pixelate(images: Images, left: float) -> Images:
    height, width = images.shape[1:3]
    small = (max(1, int(width * left)), max(1, int(height * left)))
    box = Image.Resampling.BOX
    resized = [Image.fromarray(i).resize(small, box).resize((width, height), box) for i in images]
    return np.stack([np.asarray(image) for image in resized])


def _jpeg(images: Images, quality: float) -> Images:
    found = []
    for image in images:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        found.append(np.asarray(Image.open(file)))
    return np.stack(found)


CHANGES: dict[str, Callable[[Images, float], Images]] = {
    "gaussian blur": _blur,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
