"""An analysis as people meet it.

An analysis is a module in this package with

- `ABOUT`, an `About`: what it is, for people;
- `start(study) -> Accumulator`: raises `NotApplicable` where no model of the study suits it;
- `draw(result) -> {name: Figure}`: figures from the arrays alone;
- its measures as pure functions (arrays in, arrays out), usable without any of the above.

The engine (`zoo.analyses.engine`) shows each accumulator what it asked to see, in one pass of each
model over the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    """An analysis as people meet it.

    `shows` says in a sentence or two what it shows; `reading` how to read the figure; `needs`
    is `outputs`, `activations`, `attention` or `gradients`; `source` names paper and figures.
    `settings` are the fields of `Settings` that decide its numbers or figures. `captions` say
    what a figure shows, by its name, where {} stands for the model or pair that it is of.
    """

    name: str
    title: str
    shows: str
    reading: str
    needs: str
    source: str
    settings: tuple[str, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
