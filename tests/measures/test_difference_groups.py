"""Groups that differ between representations made to differ in known ones."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from zoo.measures.difference_groups import (
    STABLE,
    difference_groups,
    neighbour_ranks,
    rank_difference,
)
from zoo.measures.features import DegenerateError


def test_ranks_are_scipys_of_the_distances():
    x = np.random.default_rng(0).normal(size=(30, 5))
    expected = rankdata(cdist(x, x), axis=1) - 1
    assert np.array_equal(neighbour_ranks(x), expected)
    assert np.array_equal(neighbour_ranks(5 * x + 3), expected)
    copies = np.array([[0.0], [0.0], [1.0]])
    assert neighbour_ranks(copies).tolist() == [[0, 1, 2], [1, 0, 2], [1, 2, 0]]


def test_the_difference_is_the_papers_written_out():
    a, b = (neighbour_ranks(np.random.default_rng(s).normal(size=(20, 4))) for s in (0, 1))
    found = rank_difference(a, b)
    for i in range(20):
        for j in range(20):
            gap = (b[i, j] - a[i, j]) / (min(a[i, j], b[i, j]) + 1)
            assert found[i, j] == pytest.approx(np.tanh(4 * gap))
    assert np.allclose(rank_difference(b, a), -found)
    assert not rank_difference(a, a).any()


def made(seed=0, n=160):
    """B has four clusters; A joins the images of one special kind, which B scatters over them."""
    random = np.random.default_rng(seed)
    of_b = np.arange(n) % 4
    special = np.arange(n) < 24
    b = 6 * np.eye(4)[of_b] + random.normal(size=(n, 4))
    a = 6 * np.eye(5)[np.where(special, 4, of_b)] + random.normal(size=(n, 5))
    return neighbour_ranks(a), neighbour_ranks(b), np.flatnonzero(special)


def test_the_group_that_one_network_alone_joins_is_found_and_stable():
    a, b, special = made()
    found = difference_groups(a, b, groups=4, samples=8)
    best = max(found, key=lambda group: group.far - group.near)
    overlap = len(np.intersect1d(best.images, special))
    assert overlap / (len(best.images) + len(special) - overlap) > 0.8
    assert best.stability >= STABLE
    assert best.near < 0.2
    assert best.far > 0.4
    every = np.sort(np.concatenate([group.images for group in found]))
    assert np.array_equal(every, np.arange(160))
    assert [g.stability for g in found] == sorted((g.stability for g in found), reverse=True)


def test_groups_repeat_for_a_seed():
    a, b, _ = made()
    first, second = (difference_groups(a, b, groups=4, samples=3, seed=2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.images, other.images)
        assert one.stability == other.stability


def test_unrelated_noise_has_no_stable_groups():
    random = np.random.default_rng(0)
    a, b = (neighbour_ranks(random.normal(size=(120, 20))) for _ in range(2))
    assert max(g.stability for g in difference_groups(a, b, groups=8, samples=8)) < STABLE


def test_what_cannot_be_compared_is_named():
    a, b, _ = made()
    with pytest.raises(ValueError, match="same 32 or more images, got 20 and 20"):
        difference_groups(a[:20, :20], b[:20, :20])
    with pytest.raises(DegenerateError, match="is constant"):
        neighbour_ranks(np.ones((8, 3)))
