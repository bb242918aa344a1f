"""Each layer's best match in another network, beside what permuted images give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.measures.deconfounded import permuted_without_given, without_given
from zoo.measures.permutation import best_matches, permutation_p
from zoo.study.axes import Scale, variable
from zoo.study.networks import Study
from zoo.study.results import Metric

Rows = Sequence[tuple[int, str]]  # index of a network, name of a layer
Nulls = Mapping[tuple[int, int], NDArray[np.float64]]  # of two networks, (permutations, p, q)


@dataclass(frozen=True)
class Matched:
    """The best matches of network `a`'s layers in network `b`.

    `found` is (layers of a,), `permuted` (permutations, layers of a) the same under every
    permutation of one network's images.
    """

    a: int
    b: int
    found: NDArray[np.float64]
    permuted: NDArray[np.float64]


def cka_nulls(rows: Rows, hsic: NDArray[np.float64], permuted: Nulls) -> tuple[Nulls, Nulls]:
    """Return CKA, and deconfounded CKA, of all pairs of layers under every permutation.

    Args:
        rows: the layers.
        hsic: (rows + 1, rows + 1), the last row being the pixels'; averaged over batches.
        permuted: of two networks (permutations, p + 1, q + 1) HSIC when one network's images are
            permuted, averaged likewise; the last row of both sides is the pixels'.
    """
    of = np.array([s for s, _ in rows])
    lengths = [
        np.sqrt(np.where(own > 0, own, np.nan))[:-1]
        for own in (np.diagonal(hsic), np.diagonal(without_given(hsic, -1)))
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = hsic[:-1, -1] / hsic[-1, -1]
    plain: dict[tuple[int, int], NDArray[np.float64]] = {}
    learnt: dict[tuple[int, int], NDArray[np.float64]] = {}
    for (a, b), null in permuted.items():
        sides = of == a, of == b
        left = permuted_without_given(null, share[sides[0]], share[sides[1]])
        for kept, values, length in ((plain, null[:, :-1, :-1], lengths[0]),
                                     (learnt, left, lengths[1])):  # fmt: skip
            kept[a, b] = values / length[sides[0], None] / length[None, sides[1]]
    return plain, learnt


def match(rows: Rows, cka: NDArray[np.float64], nulls: Nulls) -> Iterator[Matched]:
    """Yield the best matches of two networks' layers in each other, in both directions."""
    of = np.array([s for s, _ in rows])
    for (a, b), null in nulls.items():
        cells = cka[np.ix_(of == a, of == b)]
        # Of a layer that could not be measured, nothing under permutation is either.
        known = np.where(np.isfinite(cells), null, np.nan)
        yield Matched(a, b, best_matches(cells), best_matches(known))
        yield Matched(b, a, best_matches(cells.T), best_matches(known.transpose(0, 2, 1)))


def variables(
    name: str, rows: Rows, matched: Sequence[Matched], compared: int, scale: Scale
) -> dict[str, Any]:
    """Return each layer's best match in every other network, beside what chance gives."""
    of = np.array([s for s, _ in rows])
    best, chance, p = np.full((3, len(rows), compared), np.nan)
    for one in matched:
        best[of == one.a, one.b] = one.found
        chance[of == one.a, one.b] = one.permuted.mean(axis=0)
        p[of == one.a, one.b] = permutation_p(one.found, one.permuted)
    dims = ("layer", "matched")
    return {
        f"{name}_best_match": variable(dims, best, scale=scale),
        f"{name}_best_match_permuted": variable(dims, chance, scale=scale),
        f"{name}_best_match_p": variable(dims, p),
    }


def metrics(study: Study, matched: Sequence[Matched], kind: str = "") -> Iterator[Metric]:
    """Yield the mean best match of every pair, in both directions, and what chance gives.

    Args:
        study: whose networks they are.
        matched: the best matches.
        kind: ends the names of a measure other than plain CKA, such as `_deconfounded`.
    """
    for one in matched:
        known = np.isfinite(one.found)
        if not known.any():
            continue
        of = study.compared[one.a].name, study.compared[one.b].name
        mean, means = one.found[known].mean(), one.permuted[:, known].mean(axis=1)
        yield Metric(f"mean_best_match{kind}", float(mean), *of, pair="directed")
        yield Metric(f"best_match{kind}_permuted", float(means.mean()), *of, pair="directed")
        p = float(permutation_p(mean, means))
        yield Metric(f"best_match{kind}_p", p, *of, pair="directed")
