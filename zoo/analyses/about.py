"""What an analysis is, and how it is described to people.

An analysis is a module in this package with

- `ABOUT`, an `About`: what it is, for people;
- `start(study) -> Accumulator`: raises `NotApplicable` where no model of the study suits it;
- `draw(result, compared) -> [Drawing, ...]`: figures from the result alone, of the networks with
  these names;
- its measures as pure functions (arrays in, arrays out), usable without any of the above.

The engine (`zoo.analyses.engine`) shows each accumulator what it asked to see, in one pass of each
model over the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class About:
    """The description of an analysis.

    `shows` says in a sentence or two what it shows; `reading` how to read the figure; `needs`
    is `outputs`, `activations`, `attention` or `gradients`; `source` names paper and figures.
    `settings` are the fields of `Settings` that decide its numbers or figures. `captions` say
    what each kind of figure shows, where {} stands for its network or pair; `metrics` describes
    each metric; `unit` is theirs, or that in `units`, and empty for a share of 1 (by
    `zoo.study.results.RANGES`, an interval does not exceed the range of its unit).
    """

    name: str
    title: str
    shows: str
    reading: str
    needs: str
    source: str
    settings: tuple[str, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    def unit_of(self, metric: str) -> str:
        """Return the unit of a metric; empty for a share of 1."""
        return self.units.get(metric, self.unit)


@dataclass(frozen=True)
class Drawing:
    """A figure of an analysis: of which kind it is, and of which networks.

    `kind` is a key of the analysis' captions, such as `cka-{}`, where {} stands for the names.
    `over_seeds` says that it shows all seeds of a model, where there are several.
    """

    kind: str
    figure: Figure
    of: tuple[str, ...] = ()
    over_seeds: bool = False
