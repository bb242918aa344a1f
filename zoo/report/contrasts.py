"""What one of two networks does more than the other, in sentences: the strongest first.

A contrast is a number of one network minus that of the other, decided as claims are: over seeds
where both have several, corrected together with the claims' tests, beside the same before training.
Where a claim tests the same number, the claim's correction holds for both.
Its strength is the difference over the sum of the two numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from numpy.typing import NDArray

from zoo.claims import at_chance, in_seeds
from zoo.claims.base import (
    BUILT_IN,
    SUPPORTED,
    Measurement,
    Networks,
    Threshold,
    Verdict,
    measured,
    of_metric,
)
from zoo.claims.cases import groups_by_seed
from zoo.claims.cka import own_similarity
from zoo.claims.decide import LEVEL, STRENGTHENED, WEAKENED, p_against, verdict_of
from zoo.claims.probes import at_half_depth
from zoo.claims.receptive_field import first_reach, last_core
from zoo.claims.residuals import skip_over_branch
from zoo.measures.intervals import DIFFERENCE, UNBOUNDED
from zoo.measures.multiple_testing import holm
from zoo.report.filters import format_estimate
from zoo.study.results import ComparisonResults, Network

Number = Callable[[ComparisonResults, Network], Measurement | None]


@dataclass(frozen=True)
class Sentence:
    """What was found, and in which analysis; `analysis` is empty where it was in several."""

    text: str
    analysis: str = ""


@dataclass(frozen=True)
class Contrast:
    """A number that both networks may have, and what a higher one says of `{more}` and `{less}`.

    `percent` says whether it is a share, and `of` what it is of; `when` sets apart the numbers of a
    topic. It is a `number`, or else a `metric` of right answers, whose difference was measured
    image by image; untrained networks have none to speak of. `claim` tests the same of a ViT and
    a CNN. `guessing` is the metric that says how high the number is of a network that guesses.
    """

    analysis: str
    topic: str
    says: str
    of: str
    number: Number | None = None
    percent: bool = True
    when: str = ""
    metric: str = ""
    claim: str = ""
    guessing: str = ""

    def measure(self, results: ComparisonResults, network: Network) -> Measurement | None:
        """Measure a network's number."""
        if self.number:
            return self.number(results, network)
        return of_metric(self.analysis, self.metric)(results, (network,))

    def difference(self, results: ComparisonResults, networks: Networks) -> Measurement | None:
        """Measure the first network's number minus the second's."""
        a, b = networks
        if self.metric:
            return of_metric(self.analysis, f"{self.metric}_difference")(results, networks)
        one, other = self.measure(results, a), self.measure(results, b)
        if one is None or other is None:
            return None
        if one.draws is not None and other.draws is not None:
            return measured(one.draws - other.draws, "")
        value, low, high = one.minus(other)
        return Measurement(value, "", low, high)


def _drawn(
    of: Callable[[ComparisonResults, Network], NDArray | None],
    results: ComparisonResults,
    network: Network,
) -> Measurement | None:
    draws = of(results, network)
    return None if draws is None else measured(draws, "")


def _probed(results: ComparisonResults, network: Network) -> Measurement | None:
    found = at_half_depth(results, network)
    return found and Measurement(found[0], "", *found[1:])


ORIGINS = {  # by the verdict, or by its reason
    SUPPORTED: "Learnt",
    STRENGTHENED: "Strengthened by training",
    BUILT_IN: "Built in",
    WEAKENED: "Built in, weakened by training",
}
KEPT = {
    "random_patches": "with patches dropped at random",
    "most_attended": "with the most attended patches dropped",
    "least_attended": "with the least attended patches dropped",
    "shuffled_tiles": "with tiles shuffled",
    "gaussian_noise": "under noise",
    "gaussian_blur": "blurred",
    "contrast": "at lower contrast",
    "pixelate": "pixelated",
    "jpeg": "compressed as JPEG",
}
CONTRASTS = (
    Contrast(
        "receptive-field",
        "how far the first block sees",
        "The first block of {more} sees farther than that of {less}",
        "of the way from the image's centre to a corner, for nine tenths of what it depends on",
        partial(_drawn, first_reach),
        claim="R-reach",
    ),
    Contrast(
        "receptive-field",
        "how widely the stronger half of what the last block sees is spread",
        "What the last block of {more} depends on most is spread more widely than in {less}",
        "of the way from the image's centre to a corner, for half of it",
        partial(_drawn, last_core),
    ),
    *(
        Contrast(
            "robustness",
            "accuracy kept",
            "{more} keeps more of its accuracy than {less}",
            "",
            when=when,
            metric=f"kept_{kind}",
            claim={"random_patches": "N-dropped", "shuffled_tiles": "N-shuffled"}.get(kind, ""),
            guessing="kept_by_guessing",
        )
        for kind, when in KEPT.items()
    ),
    Contrast(
        "frequency",
        "accuracy lost to noise of high frequencies",
        "Noise of high frequencies costs {more} more accuracy than {less}",
        "of images",
        metric="lost_to_high_noise",
        claim="P-noise",
    ),
    Contrast(
        "probes",
        "what a probe reads at half depth",
        "At half depth a linear probe is right more often in {more} than in {less}",
        "of images",
        _probed,
    ),
    Contrast(
        "cka",
        "how alike layers of different depth are",
        "The layers of {more} are more alike across depth than those of {less}",
        "in mean CKA",
        partial(_drawn, own_similarity),
        percent=False,
        claim="R-uniform",
    ),
    Contrast(
        "residuals",
        "what skips carry",
        "Relative to what branches add, skips carry more in {more} than in {less}",
        "times as much",
        partial(_drawn, skip_over_branch),
        percent=False,
    ),
)


@dataclass(frozen=True)
class _Found:
    """A contrast with the network of the higher number first; `each` are the two numbers."""

    contrast: Contrast
    networks: Networks
    difference: Measurement
    each: tuple[float, float]
    before: Measurement | None
    each_before: tuple[float, float] | None
    one_seed: bool  # of networks that have several
    guessing: tuple[float, float] | None = None

    @property
    def strength(self) -> float:
        return self.difference.value / (sum(map(abs, self.each)) or 1)

    def says(self) -> str:
        more, less = (network.name for network in self.networks)
        return self.contrast.says.format(more=more, less=less)

    def numbers(self) -> str:
        times, unit = (100, " points") if self.contrast.percent else (1, "")
        size, ends = format_estimate(*(times * end for end in self.difference.estimate))
        parts = self.contrast.when, self._against(self.each), self.contrast.of
        said = " ".join(part for part in parts if part)
        return f"{said} (difference {size}{unit}, {ends})"

    def origin(self, p: float) -> str:
        """Say whether training made it, or in what it was not measured."""
        if self.contrast.metric:
            one = "Measured in one seed. " if self.one_seed else ""
            guess = f" Guessing would keep {self._against(self.guessing)}." if self.guessing else ""
            return f"{one}Not tested on untrained networks, which answer by chance.{guess}"
        if self.before is None or self.each_before is None:
            return "Not measured before training."
        change = self.difference.minus(self.before)
        verdict, reason = verdict_of(Threshold("above", 0), self.difference, self.before, change, p)
        origin = ORIGINS.get(reason) or ORIGINS.get(verdict, "Undecided whether learnt")
        return f"{origin}: {self._against(self.each_before)} before training."

    def _against(self, each: tuple[float, float]) -> str:
        if self.contrast.percent:
            return " against ".join(f"{100 * value:.0f} %" for value in each).replace("-", "−")
        # Untrained branches may add next to nothing: of such a ratio no decimals are read.
        return " against ".join(f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.2f}" for v in each)


def contrasts(results: ComparisonResults, verdicts: Sequence[Verdict]) -> list[Sentence]:
    """Say what one of two networks does more than the other, then what is not told apart.

    Nothing of one network, or of more than two.
    """
    if len(results.compared) != 2:
        return []
    found = [of for contrast in CONTRASTS if (of := _find(contrast, results))]
    found.sort(key=lambda of: -of.strength)
    tests = [p_against(of.difference, Threshold("above", 0)) for of in found]
    corrected = _corrected(found, tests, verdicts)
    told: dict[tuple[str, str, str], list[str]] = {}
    alone: dict[str, list[str]] = {}  # beyond chance, if it were the only test
    open_: dict[str, list[str]] = {}
    untested: dict[str, list[str]] = {}  # too few images for an interval
    for of, test, p in zip(found, tests, corrected, strict=True):
        if p < LEVEL:
            key = of.contrast.analysis, of.says(), of.origin(p)
            told.setdefault(key, []).append(of.numbers())
        elif test < LEVEL:
            alone.setdefault(of.says(), []).append(of.numbers())
        else:
            topics = open_ if math.isfinite(test) else untested
            topics.setdefault(of.contrast.topic, []).append(of.contrast.when)
    said = [
        Sentence(f"{says}: {'; '.join(numbers)}. {origin}", analysis)
        for (analysis, says, origin), numbers in told.items()
    ]
    if alone:
        listed = ". ".join(f"{says}: {'; '.join(numbers)}" for says, numbers in alone.items())
        said.append(Sentence(f"Beyond chance if taken alone, not after correction: {listed}."))
    for words, topics in (
        ("No difference found beyond chance, which does not mean that there is none", open_),
        ("Not tested, since there is no interval", untested),
    ):
        listed = "; ".join(
            topic + (f" ({', '.join(whens)})" if any(whens) else "")
            for topic, whens in topics.items()
        )
        if listed:
            said.append(Sentence(f"{words}: {listed}."))
    return said


def _corrected(
    found: Sequence[_Found], tests: Sequence[float], verdicts: Sequence[Verdict]
) -> list[float]:
    """Return each contrast's p-value, corrected once for all tests of the page."""
    of_claims = {
        verdict.claim.id: verdict.p_holm for verdict in verdicts if math.isfinite(verdict.p)
    }
    own = [
        math.nan if of.contrast.claim in of_claims else test
        for of, test in zip(found, tests, strict=True)
    ]  # NaN is no test
    corrected = holm([*(verdict.p for verdict in verdicts), *own])[len(verdicts) :].tolist()
    return [of_claims.get(of.contrast.claim, p) for of, p in zip(found, corrected, strict=True)]


def _find(contrast: Contrast, results: ComparisonResults) -> _Found | None:
    """Measure a contrast, with the network of the higher number first.

    None where it was not measured, or is of right answers that one gives no more often than chance.
    """
    if contrast.analysis not in results.results:
        return None
    if contrast.metric and at_chance(results, results.compared):
        return None
    for networks in (results.compared, results.compared[::-1]):
        within = DIFFERENCE if contrast.percent else UNBOUNDED
        found, before = in_seeds(contrast.difference, results, networks, within=within)
        if not isinstance(found, Measurement):
            return None
        if found.value < 0:
            continue
        groups = groups_by_seed(results, networks)
        used = groups if found.by_seed else [networks]
        start = [tuple(map(results.initial, group)) for group in used] if before else []
        each = _means(contrast, results, used)
        if each is None:
            return None
        return _Found(
            contrast, networks, found, each, before, _means(contrast, results, start),
            one_seed=len(groups) > len(used), guessing=_guessing(contrast, results, used),
        )  # fmt: skip
    return None


def _guessing(
    contrast: Contrast, results: ComparisonResults, groups: Sequence[Networks]
) -> tuple[float, float] | None:
    """Return what two networks that guess have of a contrast; None where it is not known."""
    if results.results[contrast.analysis].find(contrast.guessing, groups[0][0].name) is None:
        return None
    return _means(replace(contrast, metric=contrast.guessing), results, groups)


def _means(
    contrast: Contrast, results: ComparisonResults, groups: Sequence[tuple[Network | None, ...]]
) -> tuple[float, float] | None:
    """Return the number of the first and of the second networks, the mean over groups."""
    sides = []
    for side in zip(*groups, strict=True):
        numbers = [contrast.measure(results, network) for network in side if network]
        sides.append(fmean(number.value for number in numbers if number))
    return (sides[0], sides[1]) if sides else None
