"""What MLflow imports to serve a model of the zoo, even if zoo is not installed.

Each model's `code` folder, which MLflow puts on the path, holds this file and, one folder below, a
copy of the part of zoo that serving needs. The copy is put on the path only if zoo is not
installed, so that it never hides the rest of an installed zoo.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.registry.serving import ImageClassifier

SOURCE = "source"


def _load_pyfunc(path: str) -> ImageClassifier:
    """Load what lies in a model's `data` folder; the name is MLflow's contract."""
    found = importlib.util.find_spec("zoo")
    if found is None or found.origin is None:  # a folder named zoo without code is no package
        sys.path.append(str(Path(__file__).parent / SOURCE))
    from zoo.registry.serving import ImageClassifier

    return ImageClassifier(Path(path))
