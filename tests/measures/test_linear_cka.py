"""Linear CKA against the definition, written out in loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import UserError
from zoo.measures.linear_cka import (
    centred_gram,
    cka_from_hsic,
    linear_cka,
    pairwise_hsic,
)


def hsic1(K, L):
    """Song et al. 2012, Eq. 5: the mean over all ordered quadruples of distinct samples."""
    n = len(K)
    total = 0.0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def reference_cka(batches_x, batches_y):
    """Minibatch CKA by the trace formula in float64."""

    def term(K, L):
        n = len(K)
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        one = np.ones(n)
        return (
            np.trace(K @ L)
            + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ K @ L @ one)
        ) / (n * (n - 3))

    sums = np.zeros(3)
    for x32, y32 in zip(batches_x, batches_y, strict=True):
        x, y = x32.astype(np.float64), y32.astype(np.float64)
        K, L = x @ x.T, y @ y.T
        sums += [term(K, L), term(K, K), term(L, L)]
    return sums[0] / np.sqrt(sums[1] * sums[2])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_unbiased_estimator_is_the_mean_over_quadruples():
    x, y = random(7, 3), random(7, 4, seed=1)
    grams = torch.stack([centred_gram(torch.tensor(v)).values for v in (x, y)])
    hsic = pairwise_hsic(grams, 7)
    K, L = x @ x.T, y @ y.T
    for i, j, expected in ((0, 1, hsic1(K, L)), (0, 0, hsic1(K, K)), (1, 1, hsic1(L, L))):
        assert hsic[i, j].item() == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-50, 50))
def test_cka_ignores_rotation_scale_shift_and_order_and_is_symmetric(seed, scale, shift):
    random_state = np.random.default_rng(seed)
    x, y = random_state.normal(size=(12, 5)), random_state.normal(size=(12, 6))
    value = linear_cka(x, y)
    rotation, _ = np.linalg.qr(random_state.normal(size=(5, 5)))
    order = random_state.permutation(12)
    assert linear_cka(x @ rotation * scale + shift, y) == pytest.approx(value, abs=1e-9)
    assert linear_cka(x[order], y[order]) == pytest.approx(value, abs=1e-9)
    assert linear_cka(y, x) == pytest.approx(value, abs=1e-12)
    assert linear_cka(x, x) == pytest.approx(1)
    # Absolute epsilons elsewhere give 0.947 for this.
    assert linear_cka(x * 1e-3, x) == pytest.approx(1)


def test_unrelated_representations_have_none_on_average():
    values = [linear_cka(random(30, 4, seed=s), random(30, 4, seed=s + 500)) for s in range(200)]
    assert abs(np.mean(values)) < 0.02


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((6, 2)), "x is constant"),
        (np.full((6, 2), np.nan), "x is not finite"),
        (random(5, 2), "expected the same images, got 5 and 6"),
    ],
)
def test_degenerate_input_is_named(x, message):
    with pytest.raises(ValueError, match=message):
        linear_cka(x, random(6, 2))


def test_too_few_images_are_named():
    with pytest.raises(UserError, match="at least 4 images in a batch, got 3"):
        linear_cka(random(3, 2), random(3, 2))


@pytest.mark.parametrize("ratio", [0, 27, 91])
def test_a_mean_far_above_the_deviation_costs_no_accuracy(ratio):
    # Published tools return -0.5, 1.0, -inf or NaN here: float32 cancels.
    x = (random(64, 300) + ratio).astype(np.float32)
    y = (x[:, :200] * 0.5 + random(64, 200, seed=1) + ratio).astype(np.float32)
    grams = torch.stack([centred_gram(torch.tensor(v)).values for v in (x, y)])
    value = cka_from_hsic(pairwise_hsic(grams, 64).numpy())[0, 1]
    assert value == pytest.approx(reference_cka([x], [y]), abs=1e-6)
