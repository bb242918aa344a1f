"""What more data changes in each layer (Raghu et al. 2021, Fig. 12; Zhu et al. 2023).

Each network that was trained on a part of the data is compared, layer by layer, with the one of
the same architecture that was trained on all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.analyses.engine import compare_models
from zoo.analyses.same_layer_cka import SameLayers, same_layers
from zoo.claims import Verdict, decide, measure_claim
from zoo.config import Settings
from zoo.errors import UserError
from zoo.measures.depth import thirds
from zoo.models.files import LoadedModel
from zoo.models.spec import ModelSpec
from zoo.models.untrained import untrained_network
from zoo.progress import OnProgress, no_progress

SUBSET, SEEDS, NO_TRAINING = "subset", "seed baseline", "untrained baseline"
UNTRAINED = "untrained"
OVER_SEEDS, OVER_IMAGES = "range over pairs of seeds", "95 % interval over images"


@dataclass(frozen=True)
class Trained:
    """A trained variant: `images` counts those it was trained on."""

    model: str
    subset: str
    seed: int
    images: int
    network: LoadedModel


@dataclass(frozen=True)
class Curve:
    """How alike networks are to those trained on all data, one value per layer.

    `family` is that of the networks (`zoo.study.networks.family_of`). `role` is `subset`,
    `seed baseline` (networks trained on all data, of different seeds) or `untrained baseline`
    (untrained networks, `images` 0).
    `cka` (layers,) is the mean over `pairs` pairs of networks; `band` says what lies between `low`
    and `high`. `same_start`: the networks of a pair began with the same weights. `blocks` are
    positions in `layers`; `notes` say why a value is missing. `block_draws` are the blocks' values
    and what they might be on other images, (1 + draws, blocks), of pairs in which every network
    stands once, seed by seed.
    """

    model: str
    family: str
    subset: str
    role: str
    images: int
    layers: tuple[str, ...]
    blocks: tuple[int, ...]
    cka: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    band: str
    pairs: int
    same_start: bool
    notes: tuple[str, ...]
    block_draws: tuple[NDArray[np.float64], ...]


def compare_with_full(
    trained: Sequence[Trained],
    images: NDArray[np.uint8],
    *,
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = no_progress,
) -> list[Curve]:
    """Compare the networks of one architecture with those trained on its largest subset.

    All of them see the images in one pass. Pairs have different seeds where there are two or
    more: networks of one seed start from the same weights, which alone makes them alike. The
    untrained baseline follows the same rule, so it is what a subset of no images at all would give.

    Args:
        trained: every subset and seed of one architecture.
        images: (n, height, width, 3) uint8, n >= 4, that none of them was trained on.
        settings: batch size, layers, seed.
        on_progress: is called for every batch of images and of every analysis.

    Returns:
        One curve per subset from the smallest to the next to largest, then the seed baseline (where
        the largest has two or more seeds) and the untrained baseline (where the architecture can
        be built).

    Raises:
        UserError: networks of several architectures, or nothing to compare with.
    """
    if len({t.model for t in trained}) != 1:
        raise UserError("expected the networks of one architecture")
    model = trained[0].model
    full = max(trained, key=lambda t: t.images)
    seeds = sorted({t.seed for t in trained if t.subset == full.subset})
    groups = {t.subset: t.images for t in sorted(trained, key=lambda t: t.images)}
    networks = {(t.subset, t.seed): t.network for t in trained}
    if untrained := _untrained(full.network.spec, seeds):
        networks |= {(UNTRAINED, seed): network for seed, network in untrained.items()}
    found = compare_models(
        [dataclasses.replace(m, name=_name(model, *key)) for key, m in networks.items()],
        images,
        only=["cka"],
        settings=dataclasses.replace(settings or Settings(), references=False),
        device=device,
        on_progress=on_progress,
    )
    family = found.compared[0].family

    def curve(role: str, subset: str, pairs: Sequence[tuple[int, int]]) -> Curve:
        result, largest = found.results["cka"], full.subset
        same = [
            same_layers(result, _name(model, subset, a), _name(model, largest, b)) for a, b in pairs
        ]
        cka, low, high, band = _average(same)
        return Curve(
            model, family, subset, role, groups.get(subset, 0), same[0].layers, same[0].blocks,
            cka, low, high, band, len(same), any(a == b for a, b in pairs), _reasons(same),
            tuple(same[pairs.index(pair)].block_draws for pair in apart(pairs)),
        )  # fmt: skip

    curves = [
        curve(SUBSET, subset, pairings([s for name, s in networks if name == subset], seeds))
        for subset in groups
        if subset != full.subset
    ]
    if len(seeds) > 1:
        curves.append(curve(SEEDS, full.subset, list(combinations(seeds, 2))))
    if untrained:
        curves.append(curve(NO_TRAINING, UNTRAINED, pairings(list(untrained), seeds)))
    if not curves:
        raise UserError(f"{model}: expected two subsets or two seeds, got one network")
    return curves


def pairings(seeds: Sequence[int], full: Sequence[int]) -> list[tuple[int, int]]:
    """Pair seeds of a subset with those of the full set: different ones wherever there are.

    >>> pairings([0, 1], [0, 1])
    [(0, 1), (1, 0)]
    >>> pairings([0], [0])
    [(0, 0)]
    """
    different = [(a, b) for a in seeds for b in full if a != b]
    return different or [(a, b) for a in seeds for b in full]


def apart(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return as many of the pairs of seeds as there are in which no network stands twice.

    Numbers of pairs that share a network are not independent, so that an interval over them would
    be too narrow.

    >>> apart(pairings([0, 1], [0, 1, 2]))
    [(0, 1), (1, 2)]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    first, second = ([*dict.fromkeys(side)] for side in zip(*pairs, strict=True))
    allowed = csr_array([[(a, b) in pairs for b in second] for a in first])
    matched = maximum_bipartite_matching(allowed, perm_type="column")
    return [(a, second[j]) for a, j in zip(first, matched.tolist(), strict=True) if j >= 0]


def _untrained(spec: ModelSpec, seeds: Sequence[int]) -> dict[int, LoadedModel]:
    try:
        return {seed: untrained_network(spec, seed) for seed in seeds}
    except UserError:
        return {}  # the network is not zoo's own to build, and has no untrained baseline


def _name(model: str, subset: str, seed: int) -> str:
    # With spaces, since the names of models and subsets hold hyphens and digits of their own.
    return f"{model} {subset} seed {seed}"


def _average(found: Sequence[SameLayers]) -> tuple[NDArray, NDArray, NDArray, str]:
    """Return the mean of CKA over pairs of networks, its band, and what that is."""
    values = np.stack([one.cka for one in found])
    if len(found) > 1:
        return values.mean(axis=0), values.min(axis=0), values.max(axis=0), OVER_SEEDS
    low, high = found[0].low, found[0].high
    return values[0], low, high, OVER_IMAGES if np.isfinite(low).any() else "none"


def _reasons(found: Sequence[SameLayers]) -> tuple[str, ...]:
    """Return for each layer why a pair of networks has no value there."""
    return tuple(
        "; ".join(dict.fromkeys(note for note in notes if note))
        for notes in zip(*(one.notes for one in found), strict=True)
    )


def metrics(curves: Sequence[Curve]) -> dict[str, float]:
    """Return `data-effect/<model>/<subset>/<what>`, what being `mean`, `low_blocks`, ….

    The untrained baseline is under `untrained`, the seed baseline under the name of the largest
    subset. See `zoo.measures.depth.thirds` for the numbers; those that could not be measured are
    left out.
    """
    return {
        f"data-effect/{curve.model}/{curve.subset}/{what}": value
        for curve in curves
        for what, value in thirds(curve.cka, curve.blocks).items()
    }


def verdicts(curves: Sequence[Curve], n: int) -> list[Verdict]:
    """Return what the smallest subset's curves say of the papers' claims on the effect of data.

    The curves are of all architectures, as `compare_with_full` orders them, measured on n images.
    They are corrected together.
    """
    least = {curve.model: curve for curve in reversed(curves) if curve.role == SUBSET}
    untrained = {curve.model: curve for curve in curves if curve.role == NO_TRAINING}
    vits, cnns = ([c for c in least.values() if c.family == kind] for kind in ("vit", "cnn"))
    groups: list[tuple[str, tuple[str, ...]]] = [("R-data-low", (vit.model,)) for vit in vits]
    groups += [
        ("R-data-vit", (v.model, c.model)) for v in vits for c in cnns if v.subset == c.subset
    ]

    def values(of: Mapping[str, Curve], models: Sequence[str]) -> list[tuple[NDArray, ...]]:
        return list(zip(*(of[model].block_draws for model in models), strict=False))

    tests = [
        measure_claim(
            claim,
            models,
            values(least, models),
            untrained=values(untrained, models) if untrained.keys() >= set(models) else (),
            n=n,
        )
        for claim, models in groups
    ]
    return decide(tests)
