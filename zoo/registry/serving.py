"""What MLflow calls when it serves a model of the zoo: images in, class probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError


class ImageClassifier:
    """A loaded model behind MLflow's `predict`."""

    def __init__(self, folder: Path) -> None:
        from zoo.models.files import load_model

        self.model = load_model(folder)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray:
        """Return probabilities (n, classes), float32, of any number of images.

        Args:
            model_input: (n, height, width, 3) or one image, values 0 to 255, as an array,
                nested lists or a table with an image (nested or flat) in each row.
            params: not used.

        Raises:
            UserError: something else came.
        """
        from zoo.models.predict import probabilities

        return probabilities(self.model, as_pixels(model_input, self.model.spec.image_size))


def as_pixels(given: Any, image_size: int) -> NDArray[np.uint8]:
    """Return images (n, height, width, 3) uint8 of an array, nested lists or a data frame.

    `image_size` is the number of pixels per side of flat images, which do not say their shape.
    """
    array = given.to_numpy() if hasattr(given, "to_numpy") else given
    try:
        array = np.asarray(array)
        if array.dtype == object:
            array = np.stack([np.asarray(_only(row)) for row in array])
    except ValueError:
        raise UserError("images: expected the same size for all of a request") from None
    if array.ndim == 2 and array.shape[1] == image_size * image_size * 3:
        array = array.reshape(-1, image_size, image_size, 3)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[-1] != 3:
        raise UserError(f"images: expected (n, height, width, 3), got {array.shape}")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.number) or not (array == np.floor(array)).all():
            raise UserError("images: expected whole numbers from 0 to 255")
        lowest, highest = array.min(initial=0), array.max(initial=0)
        if lowest < 0 or highest > 255:
            raise UserError(f"images: expected values from 0 to 255, got {lowest} to {highest}")
        array = array.astype(np.uint8)
    return array


def _only(row: Any) -> Any:
    """Return the image of a table's row: its only cell, or its cells as flat pixels."""
    if isinstance(row, np.ndarray) and row.shape == (1,):
        return row[0]
    return row.tolist() if isinstance(row, np.ndarray) else row


def _load_pyfunc(path: str) -> ImageClassifier:
    """Load what lies in a model's `data` folder, for models that bring no loader."""
    return ImageClassifier(Path(path))
