"""How do two vision models see differently?

From Python, with no pipeline and no server::

    import zoo

    a, b = zoo.wrap(net_a, image_size=32), zoo.wrap(net_b, image_size=32)
    zoo.compare([a, b], images, labels).save("report")

    vit = zoo.load("vit-small")  # from the registry

Importing zoo loads no torch: names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "compare": "zoo.api",
    "linear_cka": "zoo.measures.linear_cka",
    "load": "zoo.api",
    "open_results": "zoo.comparison",
    "select": "zoo.comparison",
    "wrap": "zoo.api",
}

__all__ = ["__version__", "compare", "linear_cka", "load", "open_results", "select", "wrap"]

if TYPE_CHECKING:
    from zoo.api import compare, load, wrap
    from zoo.comparison import open_results, select
    from zoo.measures.linear_cka import linear_cka


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
