"""What a claim, a measurement and a verdict are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.files import finite
from zoo.measures.counts import difference_draws
from zoo.measures.intervals import (
    UNBOUNDED,
    Estimate,
    Range,
    in_range,
    independent_difference,
    is_one_number,
    mean_interval,
)
from zoo.measures.replicates import percentile_interval
from zoo.study.results import ComparisonResults, Network

SUPPORTED, BUILT_IN, UNDECIDED = "supported", "built in", "undecided"
NOT_SUPPORTED, NOT_APPLICABLE = "not supported", "not applicable"
IMAGES, SEEDS = "images", "seeds"  # what an interval is over

Networks = tuple[Network, ...]
Draws = NDArray[np.float64]  # (1 + draws, …) as measured first, then what it might be elsewhere
A_VIT = "the same ViT trained on a smaller and a larger subset, tested on the one trained on more"
TWO_SIZES = (
    "two sizes of ViT, one with more than twice the parameters of the other, each trained on the "
    "same smaller and larger subset"
)
ZHU, RAGHU = "Zhu et al. 2023", "Raghu et al. 2021"
PARK = "Park & Kim 2022"


@dataclass(frozen=True)
class Threshold:
    """What a claim's number must be: `above` or `below` a bound, or `at least` it."""

    side: str
    bound: float

    @property
    def sign(self) -> int:
        """1 where higher numbers speak for the claim, −1 where lower ones do."""
        return -1 if self.side == "below" else 1

    def holds(self, value: float) -> bool:
        """Say whether a number meets it."""
        beyond = self.sign * (value - self.bound)
        return beyond >= 0 if self.side == "at least" else beyond > 0

    def __str__(self) -> str:
        """Write it as the report does."""
        return f"{self.side} {self.bound:g}"


@dataclass(frozen=True)
class Measurement:
    """A claim's number with its 95 % interval, and the figures behind it in words.

    `low` and `high` are NaN where there is no interval. `draws` (1 + draws,) are the number and
    what it might be on other images, where that is known: differences of numbers that were
    measured on the same images are taken draw by draw. They may be (1 + draws, 2), the least and
    the most that it may be in each draw. `by_seed` are the numbers of two or more
    seeds, whose mean is the value; `over` says what its interval is over. Of a share of a network's
    own parts, such as layers or tokens, `parts` is their number: these are all that there are. A
    `count` is of such parts, or the difference of two counts or shares. All move by steps. `images`
    is how many it is of, where these are fewer than its analysis was shown.
    """

    value: float
    detail: str
    low: float = math.nan
    high: float = math.nan
    draws: Draws | None = field(default=None, repr=False, compare=False)
    by_seed: tuple[float, ...] = ()
    over: str = IMAGES
    parts: int = 0
    images: int = 0
    count: bool = False

    @property
    def estimate(self) -> Estimate:
        """The number and the ends of its interval."""
        return self.value, self.low, self.high

    @property
    def by_steps(self) -> bool:
        """Whether it is a share or a count of a network's own parts."""
        return bool(self.parts or self.count)

    def minus(self, other: Measurement) -> Estimate:
        """Return the difference to another measurement with its interval."""
        if self.by_seed and len(self.by_seed) == len(other.by_seed):
            changes = np.subtract(self.by_seed, other.by_seed)
            if not is_one_number(changes):
                mean, low, high = mean_interval(changes).tolist()
                return mean, low, high
        if self.draws is not None and other.draws is not None:
            if self.by_steps:
                return percentile_interval(difference_draws(self.draws, other.draws))
            # The least is less the most of the other.
            subtracted = other.draws if other.draws.ndim == 1 else other.draws[:, ::-1]
            return percentile_interval(self.draws - subtracted)
        return independent_difference(self.estimate, other.estimate)


def over_seeds(found: Sequence[Measurement], within: Range = UNBOUNDED) -> Measurement:
    """Return the mean of a number over seeds, with its interval over them.

    Where all seeds give the very same number, as a share of few layers may, their spread says
    nothing of how far chance reaches: the interval is then that over images.

    Args:
        found: the number in each seed, all on the same images.
        within: between what the number lies.
    """
    if len(found) == 1:
        _, low, high = in_range(found[0].estimate, within).tolist()
        return replace(found[0], low=low, high=high)
    values = tuple(one.value for one in found)
    draws = [one.draws for one in found if one.draws is not None]
    together = np.mean(draws, axis=0) if len(draws) == len(found) else None
    mean, low, high = mean_interval(np.array(values), within).tolist()
    over, parts, count = SEEDS, 0, False
    if is_one_number(values):
        over, parts, count = IMAGES, found[0].parts, found[0].count
        _, low, high = found[0].estimate if together is None else percentile_interval(together)
    form = "g" if all(one.count and one.value == int(one.value) for one in found) else ".3f"
    detail = f"seed by seed {', '.join(f'{value:{form}}' for value in values)}; the first: "
    of = detail + found[0].detail
    return Measurement(mean, of, low, high, together, values, over, parts, count=count)


# A number of a group of networks; None where it is undefined, or why a claim does not apply.
Measure = Callable[[ComparisonResults, Networks], Measurement | str | None]


def measured(draws: Draws, detail: str, parts: int = 0, *, count: bool = False) -> Measurement:
    """Return the measurement of a number (1 + draws,): itself, and what it is in every draw."""
    value, low, high = percentile_interval(draws)
    return Measurement(value, detail, low, high, draws, parts=parts, count=count)


def of_metric(
    analysis: str, metric: str, words: str = "", form: str = "+.3f"
) -> Callable[[ComparisonResults, Networks], Measurement | None]:
    """Return what measures a metric of a network or a pair, with its interval.

    Args:
        analysis: whose metric it is.
        metric: its name.
        words: what it is, before its value.
        form: how the value is written.
    """

    def measure(results: ComparisonResults, networks: Networks) -> Measurement | None:
        found = results.results[analysis].find(metric, *(network.name for network in networks))
        if found is None:
            return None
        return Measurement(found.value, f"{words} {found.value:{form}}", found.low, found.high)

    return measure


def of_two(
    number: Callable[[ComparisonResults, Network], Draws | str | None],
    words: str,
    combine: Callable[[Draws, Draws], Draws] = np.subtract,
    *,
    count: bool = False,
) -> Measure:
    """Return what measures a number of one network minus that of another, draw by draw.

    Args:
        number: gives it of a network, (1 + draws,); None where it is undefined, or why a claim
            does not apply.
        words: how the numbers `{first}` and `{second}` of the networks `{a}` and `{b}` are written.
        combine: what else is made of both, such as their ratio.
        count: both are counts, or shares, of a network's own parts.
    """

    def measure(results: ComparisonResults, networks: Networks) -> Measurement | str | None:
        each = []
        for network in networks:
            draws = number(results, network)
            if draws is None or isinstance(draws, str):
                return draws
            each.append(draws)
        (a, b), (first, second) = (network.name for network in networks), each
        detail = words.format(first=first[0], second=second[0], a=a, b=b)
        return measured(combine(first, second), detail, count=count)

    return measure


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    `cases` selects the groups of networks in a comparison that it is about. `measure` returns the
    number for one group from the results of `analysis`, None if it is undefined, or a text
    that says why the statement does not apply to this group. A claim that no comparison can test
    has no `cases`: its `measure` takes numbers from the study's stage or command named by
    `analysis`, which tests it (`zoo.claims.measure_claim`). `stay_trained` are the
    positions in a group of the networks that stay trained when the claim is tested before
    training: a network on more data where the number is how alike one on less is to it. `within` is
    the range of the number, which no interval exceeds. A claim about correct `answers` is tested
    only on networks that answer better than chance. Before training there are none, so the number
    alone decides.
    """

    id: str
    paper: str
    figure: str
    statement: str
    measured_as: str
    threshold: Threshold
    why: str
    applies_when: str
    analysis: str
    cases: Callable[[Sequence[Network]], Iterable[Networks]] | None
    measure: Callable[..., Measurement | str | None]
    stay_trained: tuple[int, ...] = ()
    within: Range = UNBOUNDED
    answers: bool = False


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
    """A claim tested on a comparison: the number, n (images) and the verdict on these models.

    `measurement` is None if the claim could not be tested; `detail` then says why. `before` is the
    same measurement before training, and `change` is how much training moved the number, with its
    interval; both are None if the initial weights are unknown. `p` tests the number against its
    threshold, and `p_holm` is corrected for all tests of the comparison. `reason` says in words
    what decided. `alone` is true if the number decides without the value before training.
    """

    claim: Claim
    models: tuple[str, ...]
    n: int
    verdict: str
    detail: str
    measurement: Measurement | None = None
    before: Measurement | None = None
    change: Estimate | None = None
    p: float = math.nan
    p_holm: float = math.nan
    reason: str = ""
    alone: bool = False

    @property
    def value(self) -> float | None:
        """The claim's number, None where it could not be tested."""
        return self.measurement.value if self.measurement else None

    @property
    def held(self) -> tuple[int, int] | None:
        """In how many seeds the number meets the threshold, and of how many; None of one seed."""
        if self.measurement is None or not self.measurement.by_seed:
            return None
        values = self.measurement.by_seed
        return sum(map(self.claim.threshold.holds, values)), len(values)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict with the claim's texts, for report.json."""
        before = self.before
        return {
            "id": self.claim.id,
            "paper": self.claim.paper,
            "figure": self.claim.figure,
            "statement": self.claim.statement,
            "measured_as": self.claim.measured_as,
            "threshold": str(self.claim.threshold),
            "analysis": self.claim.analysis,
            "models": list(self.models),
            **(_number(self.measurement) if self.measurement else {"value": None}),
            "n": self.n,
            "over": self.measurement.over if self.measurement else None,
            "seeds": list(self.held or ()),
            "p": finite(self.p),
            "p_holm": finite(self.p_holm),
            "verdict": self.verdict,
            "reason": self.reason,
            "detail": self.detail,
            "before": before and {**_number(before), "detail": before.detail},
            "change": self.change
            and before
            and self.measurement
            and _values(self.change, count=self.measurement.count and before.count),
        }


def _number(found: Measurement) -> dict[str, float | str | None]:
    return {**_values(found.estimate, count=found.count), "counted": _counted(found)}


def _values(estimate: Estimate, *, count: bool) -> dict[str, float | None]:
    """Name a number and the ends of its interval; those of a count are whole numbers."""
    known = [finite(value) for value in estimate]
    if count and all(value is None or value == int(value) for value in known):
        known = [None if value is None else int(value) for value in known]
    return dict(zip(("value", "low", "high"), known, strict=True))


def _counted(found: Measurement) -> str:
    """Write the interval of a network's own parts as counts; empty for other numbers.

    All parts were looked at, so that chance is in the images alone: where it moves no part across,
    an interval of no width would look like a number that is known exactly.
    """
    if not math.isfinite(found.high - found.low):
        return ""
    if found.count and found.low == found.high:
        return f"{found.low:g} at both ends"
    if not found.parts:
        return ""
    least, most = (
        rounded(round(end * found.parts, 6))
        for rounded, end in ((math.floor, found.low), (math.ceil, found.high))
    )
    if least == most:
        return f"{most} of {found.parts} at both ends"
    return f"{least} to {most} of {found.parts}"


def format_p(p: float | None) -> str:
    """Write a p-value for people.

    >>> format_p(0.0123), format_p(1e-9), format_p(None)
    ('0.012', '<0.001', '–')
    """
    if p is None or not math.isfinite(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def held_in(claim: Mapping[str, Any]) -> str:
    """Write in how many seeds a verdict's number, as `as_dict` gives it, meets its threshold.

    >>> held_in({"seeds": [2, 3]}), held_in({"seeds": []})
    ('2 of 3 seeds', 'one seed')
    """
    return "{} of {} seeds".format(*claim["seeds"]) if claim["seeds"] else "one seed"
