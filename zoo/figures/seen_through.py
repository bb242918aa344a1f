"""A map over an image as opacity: the image is seen where the map is high and fades elsewhere.

Colours laid over an image mix with its own brightness: a bright place under a low value looks like
a dark one under a high value. Here the image keeps its colours, and only how much of it is seen
tells of the map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from zoo.figures.image_grid import enlarge_map

SIDE = 192  # pixels of a drawn picture: small images are enlarged, so that finer maps are seen
PAPER = 224  # the grey that an image fades into
LEAST = 0.12  # of the image is seen where the map is lowest, so that one knows the place
LINE, HALO = 2, 4  # pixels of the outline, and with the white around it
OUTLINE = (213, 94, 0)


def seen_through(
    image: NDArray[np.uint8], strength: NDArray, outlined: float | None = None
) -> NDArray[np.uint8]:
    """Return an image that is seen as much as a map says.

    Args:
        image: (height, width, 3) uint8.
        strength: (rows, columns) from 0, faded, to 1, seen in full; NaN is faded.
        outlined: the places of at least this strength have an outline.

    Returns:
        (…, 192, 3) or (192, …, 3) uint8.
    """
    large = enlarge(image)
    grown = enlarge_map(np.nan_to_num(strength), *large.shape[:2])
    seen = (LEAST + (1 - LEAST) * grown.clip(0, 1))[..., None]
    mixed = (seen * large + (1 - seen) * PAPER).round().astype(np.uint8)
    if outlined is not None:
        inside = grown >= outlined
        mixed[_rim(inside, HALO)] = 255
        mixed[_rim(inside, LINE)] = OUTLINE
    return mixed


def enlarge(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) at the size of the drawn maps, small pixels as squares."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, method))


def _rim(inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return the outermost pixels of a region, so many of them; the picture's edge is one too."""
    return np.asarray(inside & ~binary_erosion(inside, iterations=width))
