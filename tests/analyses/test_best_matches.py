"""Nulls of CKA and deconfounded CKA against residuals written out, and what their p-values are."""

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.stats import ortho_group

from zoo.analyses.best_matches import cka_nulls, match
from zoo.measures.deconfounded import without_given
from zoo.measures.linear_cka import centred_gram, cka_from_hsic, pairwise_hsic
from zoo.measures.permutation import permutation_p, permuted_hsic

ROWS = [(0, "p"), (0, "q"), (1, "r"), (1, "s"), (1, "t")]
# A rotation: a layer that weighed the pixels would be like another beyond their Gram matrix.
TURN = ortho_group.rvs(4, size=len(ROWS), random_state=0)
SHARE = (0.5, 1.0, 1.5, 1.0, 0.7)


def grams(seed, n=24, shared=0.0):
    """Layers of two networks that see the same pixels, and so much else in common."""
    random = np.random.default_rng(seed)
    pixels, common = random.normal(size=(n, 4)), random.normal(size=(n, 4))
    layers = [
        np.hstack([share * pixels @ turn, shared * common @ turn + random.normal(size=(n, 4))])
        for turn, share in zip(TURN, SHARE, strict=True)
    ]
    return torch.stack([centred_gram(torch.tensor(x)).values for x in [*layers, pixels]])


def orders(seed, count, n=24):
    random = np.random.default_rng(seed)
    return np.array([random.permutation(n) for _ in range(count)])


def nulls(found, permutations):
    hsic = pairwise_hsic(found, round(found.shape[1] ** 0.5)).numpy()
    permuted = permuted_hsic(found[[0, 1, 5]], found[[2, 3, 4, 5]], permutations).numpy()
    return hsic, cka_nulls(ROWS, hsic, {(0, 1): permuted})


def test_the_nulls_are_those_of_permuted_layers_and_of_permuted_residuals():
    found, permutations = grams(0, shared=1.0), orders(1, 3)
    _, (plain, learnt) = nulls(found, permutations)
    square = found.numpy().reshape(6, 24, 24)
    pixels = square[5]
    left = [one - (one * pixels).sum() / (pixels**2).sum() * pixels for one in square[:5]]
    for k, order in enumerate(permutations):
        for values, sides in ((plain, square[:5]), (learnt, left)):
            for i in (0, 1):
                for j in (2, 3, 4):
                    other = sides[j][order][:, order]
                    cosine = (sides[i] * other).sum()
                    cosine /= np.linalg.norm(sides[i]) * np.linalg.norm(other)
                    assert values[0, 1][k, i, j - 2] == pytest.approx(cosine, abs=1e-6)


def p_values(seed, shared=0.0, count=99):
    """Those of plain and of deconfounded CKA: of the mean best match of the first network."""
    hsic, both = nulls(grams(seed, shared=shared), orders(seed, count))
    maps = cka_from_hsic(hsic)[:-1, :-1], cka_from_hsic(without_given(hsic, -1))[:-1, :-1]
    matched = [next(match(ROWS, cka, null)) for cka, null in zip(maps, both, strict=True)]
    return [permutation_p(one.found.mean(), one.permuted.mean(axis=1)).item() for one in matched]


@pytest.mark.slow
def test_p_of_networks_that_share_the_pixels_alone_is_uniform_once_these_are_taken_away():
    plain, learnt = np.array([p_values(seed) for seed in range(300)]).T
    assert (plain <= 0.05).mean() > 0.9
    # p-values lie on a grid of 1/100: half a step is within what the test can see.
    assert scipy.stats.kstest(learnt - 0.005, "uniform").pvalue > 0.01


def test_what_networks_share_beyond_the_pixels_is_found():
    assert np.mean([p_values(seed, shared=1.0, count=39)[1] <= 0.05 for seed in range(40)]) > 0.8
