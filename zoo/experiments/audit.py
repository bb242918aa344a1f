"""Which measure of similarity to trust: does it tell what is known to differ?

Seeds of one variant are more alike than networks of two architectures, and two trained seeds more
than a trained and an untrained one. A measure whose similarities do not rank such pairs first says
little about pairs of which nothing is known. Such grounded tests are those of ReSi (Klabunde et al.
2024, arXiv 2408.00531).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.errors import UserError
from zoo.files import finite
from zoo.measures.permutation import best_matches
from zoo.measures.table import MEASURES
from zoo.models.files import LoadedModel
from zoo.models.untrained import before_training
from zoo.progress import OnProgress, no_progress
from zoo.study.axes import select
from zoo.study.results import ComparisonResults

QUESTIONS = {
    "architecture": "seeds of one variant from other architectures",
    "training": "trained from untrained networks",
}
# The measures of a comparison: analysis and title, by the variable that holds their map.
MAPS = {
    "cka": ("cka", "linear CKA"),
    "cka_deconfounded": ("cka", "CKA without what the pixels explain"),
    "cka_without_dominant": ("cka", "CKA without dominant images"),
} | {measure.name: ("similarity", measure.title) for measure in MEASURES.values()}


@dataclass(frozen=True)
class Audited:
    """How well a measure tells pairs that are known to be alike from pairs that are not.

    `auprc` is the average precision of ranking pairs by their similarity, `chance` that of a random
    order (the share of alike pairs), `d_prime` how many standard deviations lie between the two
    kinds (NaN where one has no spread or fewer than two pairs). `alike` and `apart` are the
    similarities of the pairs.
    """

    measure: str
    title: str
    question: str
    auprc: float
    chance: float
    d_prime: float
    alike: tuple[float, ...]
    apart: tuple[float, ...]

    @property
    def failed(self) -> bool:
        """Whether the ranking is no better than a random order: the weakest test there is."""
        return self.auprc <= self.chance or self.d_prime <= 0


@dataclass(frozen=True)
class _Member:
    name: str
    variant: str
    seed: int
    architecture: str
    trained: bool


def audit_measures(
    seeds: Sequence[Sequence[LoadedModel]],
    images: NDArray[np.uint8],
    *,
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = no_progress,
) -> list[Audited]:
    """Test every measure that comparisons use on networks of which the answer is known.

    Args:
        seeds: of each variant, its seeds; two or more variants of different architectures, each of
            two or more seeds.
        images: (n, height, width, 3) uint8, which all networks see.
        settings: of the comparison; untrained networks are added whatever they say.

    Returns:
        One for every measure and question that has pairs of both kinds, by question.

    Raises:
        UserError: there are too few variants or seeds.
    """
    models, members = [], []
    for variant in seeds:
        for model in variant:
            named = dataclasses.replace(model, name=f"{model.name} seed {model.spec.seed}")
            both = [(named, True), (before_training(named), False)]
            for one, trained in both:
                if one is not None:
                    of = json.dumps([one.spec.arch, one.spec.kwargs], sort_keys=True)
                    models.append(one)
                    members.append(_Member(one.name, model.name, one.spec.seed, of, trained))
    if len({member.architecture for member in members}) < 2 or min(map(len, seeds)) < 2:
        raise UserError(
            "expected two or more variants of different architectures, each with two or more "
            f"registered seeds, got {', '.join(f'{s[0].name} ({len(s)})' for s in seeds) or 'none'}"
        )
    settings = dataclasses.replace(settings or Settings(), references=False)
    results = compare_models(
        models,
        images,
        only=["cka", "similarity"],
        settings=settings,
        device=device,
        on_progress=on_progress,
    )
    return list(_audit(results, members))


def d_prime(alike: ArrayLike, apart: ArrayLike) -> float:
    """Return by how many standard deviations one kind of values lies above another.

    Args:
        alike: (m,) values that should be high.
        apart: (n,) values that should be low.

    Returns:
        Difference of the means over the root of the mean of both variances (m − 1 and n − 1); NaN
        with fewer than two values of a kind, or without any spread.

    Source: Green & Swets 1966, "Signal detection theory and psychophysics".

    >>> round(d_prime([3.0, 4.0, 5.0], [0.0, 1.0, 2.0]), 3)
    3.0
    """
    high, low = np.asarray(alike, dtype=np.float64), np.asarray(apart, dtype=np.float64)
    if min(len(high), len(low)) < 2:
        return math.nan
    spread = math.sqrt((high.var(ddof=1) + low.var(ddof=1)) / 2)
    return float((high.mean() - low.mean()) / spread) if spread > 0 else math.nan


def describe(found: Sequence[Audited]) -> str:
    """Say in a sentence or two which map to trust, and which measures failed."""
    best = max(dict.fromkeys(one.measure for one in found), key=lambda name: _rank(found, name))
    told = [
        f"{QUESTIONS[one.question]} (AUPRC {one.auprc:.2f}, chance {one.chance:.2f}"
        + (f", d′ {one.d_prime:.1f})" if math.isfinite(one.d_prime) else ")")
        for one in found
        if one.measure == best
    ]
    count = len({one.measure for one in found})
    said = f"Of {count} measures, trust the map of {MAPS[best][1]} first: it tells best "
    said += f"{' and '.join(told)}."
    if lost := failures(found):
        texts = [f"{title} {' and '.join(QUESTIONS[q] for q in of)}" for title, of in lost.items()]
        said += f" No better than chance at telling: {'; '.join(texts)}."
    return said.replace("-", "−")


def failures(found: Sequence[Audited]) -> dict[str, list[str]]:
    """Return the titles of the measures that failed, with the questions that they failed at."""
    lost: dict[str, list[str]] = {}
    for one in found:
        if one.failed:
            lost.setdefault(one.title, []).append(one.question)
    return lost


def _rank(found: Sequence[Audited], measure: str) -> tuple[float, float]:
    """Return what measures are ranked by: mean AUPRC, then the lowest d′."""
    own = [one for one in found if one.measure == measure]
    lowest = min((one.d_prime for one in own if math.isfinite(one.d_prime)), default=-math.inf)
    return float(np.mean([one.auprc for one in own])), lowest


def _audit(results: ComparisonResults, members: Sequence[_Member]) -> Iterator[Audited]:
    from sklearn.metrics import average_precision_score

    kinds = {
        question: [(a, b, kind(a, b)) for a, b in combinations(members, 2)]
        for question, kind in (("architecture", _by_architecture), ("training", _by_training))
    }
    for question, pairs in kinds.items():
        for measure, (analysis, title) in MAPS.items():
            data = results.results[analysis].data[measure]
            known: dict[bool, list[float]] = {True: [], False: []}
            for a, b, alike in pairs:
                if alike is not None:
                    score = _similarity(select(data, a.name, b.name).values)
                    known[alike] += [score] if math.isfinite(score) else []
            high, low = known[True], known[False]
            if high and low:
                truth = [True] * len(high) + [False] * len(low)
                yield Audited(
                    measure,
                    title,
                    question,
                    float(average_precision_score(truth, high + low)),
                    len(high) / len(truth),
                    d_prime(high, low),
                    tuple(high),
                    tuple(low),
                )


def _by_architecture(a: _Member, b: _Member) -> bool | None:
    """Say whether two trained networks are seeds of one variant; None of what is neither."""
    if not (a.trained and b.trained):
        return None
    if a.variant == b.variant:
        return True
    return None if a.architecture == b.architecture else False


def _by_training(a: _Member, b: _Member) -> bool | None:
    """Say whether of two seeds of a variant both are trained; None of what is neither."""
    # A network and its own start share weights, two untrained ones are another question.
    if a.variant != b.variant or a.seed == b.seed or not (a.trained or b.trained):
        return None
    return a.trained and b.trained


def _similarity(cells: NDArray[np.float64]) -> float:
    """Return the mean of all best matches of either network's layers; NaN where there are none."""
    best = np.concatenate([best_matches(cells), best_matches(cells.T)])
    known = best[np.isfinite(best)]
    return float(known.mean()) if known.size else math.nan


def as_rows(found: Sequence[Audited]) -> list[Mapping[str, object]]:
    """Return the audit as rows of a table; None for a d′ that is not defined."""
    return [
        {
            "question": one.question,
            "measure": one.measure,
            "title": one.title,
            "auprc": one.auprc,
            "chance": one.chance,
            "d_prime": finite(one.d_prime),
            "alike": len(one.alike),
            "apart": len(one.apart),
            "failed": one.failed,
        }
        for one in found
    ]
