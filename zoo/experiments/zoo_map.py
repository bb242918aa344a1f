"""The map of a zoo: which of many networks see alike, by the CKA of their fingerprints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError
from zoo.files import finite
from zoo.measures.fingerprints import (
    Read,
    classical_scaling,
    similarities,
    similarity_matrix,
    similarity_replicates,
)
from zoo.measures.replicates import INTERVAL
from zoo.study.axes import interval, variable
from zoo.study.results import column

if TYPE_CHECKING:  # xarray takes a second to import
    import xarray as xr

NEAREST = 3  # neighbours of each model that are listed
UNIT = "CKA"
GROUPINGS = ("model", "family", "data")
UNKNOWN = {"family": "other", "data": ""}  # what two models may have and yet not share


@dataclass(frozen=True)
class Member:
    """A version on the map: of which `model`, trained on which `data`; `seed` None if unknown."""

    name: str
    model: str
    family: str
    data: str
    seed: int | None


@dataclass(frozen=True)
class Neighbour:
    """A model by its index, how similar it is, and the 95 % interval of that.

    The ends are None where there are too few images for an interval.
    """

    index: int
    cka: float
    low: float | None
    high: float | None


def zoo_map(members: Sequence[Member], read: Read, batches: Sequence[int]) -> xr.Dataset:
    """Compare all models at one depth, group them, and place them in a plane.

    Args:
        members: two or more.
        read: returns a member's fingerprint by its index.
        batches: images in each batch.

    Returns:
        Over `network` (with the coordinates `model`, `family`, `data`, `seed`) and `network_b`:
        `cka`; `position` in the plane that keeps most of the variance, of which `share` is kept;
        `merges` of average linkage of 1 − CKA and the `order` of its leaves; the `nearest` by
        rank, with `nearest_cka` and its interval.

    Raises:
        UserError: fewer than two models.
    """
    import xarray as xr
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    count = len(members)
    if count < 2:
        raise too_few(count)
    cka = similarity_matrix(read, count)
    placed = classical_scaling(cka)
    # What is left of the distance of two that are the same is rounding, of either sign.
    merges = linkage(np.maximum(squareform(1 - cka, checks=False), 0), "average")
    near = [nearest(read, i, cka[i], batches, most=min(NEAREST, count - 1)) for i in range(count)]
    pair, ranked = ("network", "network_b"), ("network", "rank")
    ends = np.array([[(n.low, n.high) for n in row] for row in near], float)
    variables = {
        "cka": variable(pair, cka, unit=UNIT),
        "position": variable(("network", "axis"), placed.points),
        "share": variable((), placed.share),
        "merges": variable(("merge", "column"), merges),
        "order": variable("network", leaves_list(merges)),
        "nearest": variable(ranked, [[n.index for n in row] for row in near]),
        "nearest_cka": variable(ranked, [[n.cka for n in row] for row in near], unit=UNIT),
        "nearest_cka_ci": interval(ranked, ends[..., 0], ends[..., 1], kind=INTERVAL, unit=UNIT),
    }
    names = column([member.name for member in members])
    coordinates = {
        "network": names,
        "network_b": names,
        **{
            what: ("network", column([getattr(member, what) for member in members]))
            for what in GROUPINGS
        },
        "seed": (
            "network",
            np.array([math.nan if m.seed is None else m.seed for m in members], dtype=float),
        ),
    }
    return xr.Dataset(variables, coordinates)


def too_few(count: int, left_out: Sequence[str] = ()) -> UserError:
    """Return the error of a map of fewer than two models, with why others are left out."""
    what = f"a map needs two or more models with a fingerprint, got {count}"
    return UserError("; ".join([what, *left_out]))


def nearest(
    read: Read, own: int, cka: NDArray[np.float64], batches: Sequence[int], *, most: int
) -> list[Neighbour]:
    """Return the models that are most similar to one of them, with intervals.

    Args:
        read: returns a fingerprint by its index.
        own: which model's neighbours are asked for; it is not its own.
        cka: (count,) of it with each.
        batches: images in each batch.
        most: how many neighbours.
    """
    order = [int(i) for i in np.argsort(-cka, kind="stable") if i != own][:most]
    found = similarity_replicates(read(own), [read(i) for i in order], batches)
    low, high = found.similarity_interval()
    return [
        Neighbour(i, float(cka[i]), finite(low[r]), finite(high[r])) for r, i in enumerate(order)
    ]


def nearest_to(read: Read, count: int, batches: Sequence[int], *, most: int) -> list[Neighbour]:
    """Return the models that are most similar to the first of `count`, with intervals."""
    cka = similarities(read(0), read, count)
    return nearest(read, 0, cka, batches, most=min(most, count - 1))


@dataclass(frozen=True)
class Agreement:
    """Of how many models the nearest one shares something, and of how many by chance."""

    what: str
    models: int
    by_chance: float


def agreements(data: xr.Dataset) -> Iterator[Agreement]:
    """Yield how often the nearest version is of the same model, of the same family, or trained on
    the same data, where some are and others are not.

    By chance, each other version would be as likely the nearest one.
    """
    first = data["nearest"].values[:, 0]
    for what in GROUPINGS:
        values = data[what].values
        same = (values[:, None] == values) & (values != UNKNOWN.get(what))
        np.fill_diagonal(same, val=True)  # each is the same as itself
        if not len(values) < same.sum() < same.size:
            continue
        chance = (same.sum(axis=1) - 1) / (len(values) - 1)
        yield Agreement(what, int(same[np.arange(len(values)), first].sum()), float(chance.sum()))
