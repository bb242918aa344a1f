"""Deconfounded CKA against a regression on the pixels written out, and what it takes away."""

import itertools

import numpy as np
import pytest
import torch

from zoo.measures.deconfounded import without_given
from zoo.measures.linear_cka import centred_gram, cka_from_hsic, linear_cka, pairwise_hsic


def deconfounded_cka(x, y, given):
    """Of two layers (n, …) of the same images, without what a third explains."""
    sides = (np.asarray(side, dtype=np.float64) for side in (x, y, given))
    grams = torch.stack([centred_gram(torch.from_numpy(side)).values for side in sides])
    return cka_from_hsic(without_given(pairwise_hsic(grams, len(x)).numpy(), 2))[0, 1]


def regressed(x, y, given):
    """By one regression on the pairs of images: of each image an own term, and the pixels' Gram."""
    n = len(x)
    pairs = list(itertools.combinations(range(n), 2))
    own = np.array([[float(image in pair) for image in range(n)] for pair in pairs])
    pixels = np.array([sum(given[i] * given[j]) for i, j in pairs])
    terms = np.column_stack([own, pixels])
    left = []
    for values in (x, y):
        products = np.array([sum(values[i] * values[j]) for i, j in pairs])
        coefficients = np.linalg.lstsq(terms, products, rcond=None)[0]
        left.append(products - terms @ coefficients)
    return left[0] @ left[1] / np.sqrt((left[0] @ left[0]) * (left[1] @ left[1]))


def views(seed, n=16):
    """Two layers that share something with the pixels, and something else with each other."""
    random = np.random.default_rng(seed)
    pixels, other = random.normal(size=(n, 6)), random.normal(size=(n, 3))
    x, y = (
        pixels @ random.normal(size=(6, 4))
        + other @ random.normal(size=(3, 4))
        + random.normal(size=(n, 4))
        for _ in range(2)
    )
    return x, y, pixels


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_cka_of_what_a_regression_on_the_pixels_leaves(seed):
    assert deconfounded_cka(*views(seed)) == pytest.approx(regressed(*views(seed)), abs=1e-10)


def test_layers_that_only_share_the_pixels_are_alike_no_more():
    values = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        pixels = random.normal(size=(60, 6)) * (3, 2, 1, 1, 1, 1)
        x, y = (pixels + random.normal(size=(60, 6)) for _ in range(2))
        values.append((linear_cka(x, y), deconfounded_cka(x, y, pixels)))
    plain, left = np.mean(values, axis=0)
    assert plain > 0.5
    assert abs(left) < 0.05


def test_pixels_that_nothing_shares_change_nothing():
    x, y, _ = views(0, n=200)
    unrelated = np.random.default_rng(99).normal(size=(200, 6))
    assert deconfounded_cka(x, y, unrelated) == pytest.approx(linear_cka(x, y), abs=0.01)


def test_a_layer_that_is_the_pixels_has_nothing_left_and_disturbs_no_other():
    _, y, pixels = views(0)
    assert np.isnan(deconfounded_cka(2 * pixels + 1, y, pixels))
    random = np.random.default_rng(0).normal(size=(3, 5))
    hsic = random @ random.T
    hsic = np.block([[hsic, hsic[:, 2:]], [hsic[2:], hsic[2:, 2:]]])  # row 3 is row 2 again
    cka = cka_from_hsic(without_given(hsic, 3))
    assert np.isnan(cka[2:]).all()
    assert np.isfinite(cka[:2, :2]).all()
