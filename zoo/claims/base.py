"""What a claim, a measurement and a verdict are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.study.results import ComparisonResults, Network

SUPPORTED, NOT_SUPPORTED, NOT_APPLICABLE = "supported", "not supported", "not applicable"

Networks = tuple[Network, ...]
A_VIT = "the same ViT trained on a smaller and a larger subset, of which it asks the larger"
ZHU, RAGHU = "Zhu et al. 2023", "Raghu et al. 2021"
PARK = "Park & Kim 2022"


@dataclass(frozen=True)
class Measurement:
    """A claim's number, whether it holds, and the figures behind it in words."""

    value: float
    holds: bool
    detail: str


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    `cases` picks, out of a comparison, the groups of networks that it speaks of; `measure` gives
    the number for one group from the results of `analysis`, None where it is undefined, or a text
    that says why the statement does not apply to this group. A claim that no comparison can test
    has no `cases`: its `measure` takes numbers of the study's stage or command that `analysis`
    names, which asks for the verdict (`zoo.claims.judge_values`).
    """

    id: str
    paper: str
    figure: str
    statement: str
    measured_as: str
    threshold: str
    why: str
    applies_when: str
    analysis: str
    cases: Callable[[Sequence[Network]], Iterable[Networks]] | None
    measure: Callable[..., Measurement | str | None]
    stay_trained: tuple[int, ...] | None = ()


def cite(paper: str, figure: str) -> str:
    """Say where a paper makes a claim: its name and the figure or figures.

    >>> cite("Raghu et al. 2021", "2, B.1")
    'Raghu et al. 2021, Figs 2, B.1'
    """
    if re.match(r"([A-Z]\.)?\d", figure):
        figure = f"{'Figs' if ',' in figure else 'Fig.'} {figure}"
    return f"{paper}, {figure}"


@dataclass(frozen=True)
class Verdict:
    """A claim met with a comparison: the number, n (images) and what it says of these models.

    `untrained` is the same number for the same networks before training, where it was measured.
    What holds there too was not learnt.
    """

    claim: Claim
    models: tuple[str, ...]
    value: float | None
    n: int
    verdict: str
    detail: str
    untrained: Measurement | None = None

    @property
    def learnt(self) -> bool | None:
        """Whether training brought what is supported; None where that is not known."""
        if self.verdict != SUPPORTED or self.untrained is None:
            return None
        return not self.untrained.holds

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict with the claim's texts, for report.json."""
        return {
            "id": self.claim.id,
            "paper": self.claim.paper,
            "figure": self.claim.figure,
            "statement": self.claim.statement,
            "measured_as": self.claim.measured_as,
            "threshold": self.claim.threshold,
            "analysis": self.claim.analysis,
            "models": list(self.models),
            "value": self.value,
            "n": self.n,
            "verdict": self.verdict,
            "detail": self.detail,
            "untrained": self.untrained
            and {
                "value": self.untrained.value,
                "verdict": SUPPORTED if self.untrained.holds else NOT_SUPPORTED,
                "detail": self.untrained.detail,
            },
        }


def metric(
    results: ComparisonResults, analysis: str, network: Network, measure: str
) -> float | None:
    """Return a network's metric, or None where the analysis could not measure it."""
    return results.results[analysis].metric(measure, network.name)
