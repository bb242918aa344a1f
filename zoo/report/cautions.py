"""What a reader must know before taking a difference for what the networks are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cautions(provenance: Mapping[str, Any]) -> list[str]:
    """Say where networks were trained for different numbers of steps.

    Args:
        provenance: of a comparison (`zoo.study.identity.provenance`); empty where there is none.

    >>> cautions({"models": [{"name": "a", "steps": 40}, {"name": "b", "steps": 1560}]})
    ['a was trained for 40 steps and b for 1,560: what differs may come from that.']
    """
    models = provenance.get("models", ())
    steps = {model["name"]: model["steps"] for model in models if model.get("steps")}
    if len(set(steps.values())) < 2:
        return []
    (first, count), *others = steps.items()
    said = [f"{first} was trained for {count:,} steps"]
    said += [f"{name} for {count:,}" for name, count in others]
    return [f"{', '.join(said[:-1])} and {said[-1]}: what differs may come from that."]
