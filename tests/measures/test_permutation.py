"""Permutation nulls against the package of their authors, and what their p-values are."""

import numpy as np
import pytest
import scipy.stats
import torch
from calibrated_similarity import calibrate_layers

from zoo.measures.layers import compare_layers
from zoo.measures.linear_cka import centred_gram, cka_from_hsic, linear_cka, pairwise_hsic
from zoo.measures.permutation import (
    best_matches,
    permutation_p,
    permuted_hsic,
)
from zoo.measures.table import MEASURES


def layers(seed, n=40, shared=0.0):
    """Two networks of three and two layers that share some of what they say of n images."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(n, 3))

    def layer(width):
        own = random.normal(size=(n, width))
        return np.logaddexp(0, shared * common @ random.normal(size=(3, width)) + own)

    return [layer(4), layer(6), layer(3)], [layer(5), layer(4)]


def random_orders(count, n, seed=0):
    random = np.random.default_rng(seed)
    return np.array([random.permutation(n) for _ in range(count)], dtype=int).reshape(count, n)


def grams(features):
    return torch.stack([centred_gram(torch.tensor(x)).values for x in features])


def cka_under(a, b, orders):
    """CKA (permutations, p, q) by the function under test."""
    both = grams([*a, *b])
    own = np.sqrt(np.diagonal(pairwise_hsic(both, len(a[0])).numpy()))
    hsic = permuted_hsic(both[: len(a)], both[len(a) :], orders).numpy()
    return hsic / own[: len(a), None] / own[None, len(a) :]


def prepared(name, features):
    return [MEASURES[name].prepare(x) for x in features]


def under(name, a, b, orders):
    """A measure (permutations, p, q) as a comparison takes it under permutations."""
    if name == "linear_cka":
        return cka_under(a, b, orders)
    measure = MEASURES[name]
    sides = ([measure.reduce(x) for x in prepared(name, side)] for side in (a, b))
    return measure.permuted(*sides, orders)


def test_permuted_hsic_is_that_of_permuted_features():
    a, b = layers(0)
    orders = random_orders(3, 40)
    found = cka_under(a, b, orders)
    for k, order in enumerate(orders):
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                assert found[k, i, j] == pytest.approx(linear_cka(x, y[order]), abs=1e-6)


def test_a_constant_layer_has_no_hsic_and_disturbs_no_other():
    a, b = layers(0)
    kept = grams(b)
    kept[0] = 0
    found = permuted_hsic(grams(a), kept, random_orders(2, 40))
    assert (found[:, :, 0] == 0).all()
    expected = permuted_hsic(grams(a), grams(b), random_orders(2, 40))
    assert torch.equal(found[:, :, 1], expected[:, :, 1])


@pytest.mark.parametrize("name", ["svcca", "pwcca", "procrustes"])
def test_permuting_what_is_prepared_is_permuting_the_images(name):
    a, b = layers(1, shared=1.0)
    measure, orders = MEASURES[name], random_orders(3, 40)
    for order in orders:
        for x, own in zip(a, prepared(name, a), strict=True):
            for y, other in zip(b, prepared(name, b), strict=True):
                found = measure.compare(own, measure.permute(other, order))
                assert found == pytest.approx(measure(x, y[order]), abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_what_is_reduced_gives_the_measure_under_every_permutation(name):
    # Of layers so narrow, Procrustes' principal directions are all there are.
    a, b = layers(1, shared=1.0)
    orders = random_orders(5, 40)
    expected = np.array([[[MEASURES[name](x, y[o]) for y in b] for x in a] for o in orders])
    assert under(name, a, b, orders) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["svcca", "pwcca", "procrustes"])
def test_of_wide_layers_permutations_compare_the_first_directions(name, turned):
    # Of the narrower side 25, of both sides those that hold 99 % of the variance.
    random = np.random.default_rng(0)
    sides = [random.normal(size=(150, d)) * np.geomspace(1, 0.05, d) for d in (60, 45)]
    x, y = reversed(sides) if turned else sides
    orders = random_orders(3, 150)

    def principal(values, most):
        basis, scales, directions = np.linalg.svd(values - values.mean(0), full_matrices=False)
        squares = scales**2 / (scales**2).sum()
        k = min(np.searchsorted(np.cumsum(squares), 0.99) + 1, most)
        return basis[:, :k], scales[:k, None] * directions[:k], np.sqrt(squares[:k])

    (u, loadings, s), (v, _, t) = (
        principal(x, 25 if turned else 60),
        principal(y, 60 if turned else 25),
    )
    assert sorted((len(s), len(t)))[0] == 25 < max(len(s), len(t))
    for order, found in zip(orders, under(name, [x], [y], orders)[:, 0, 0], strict=True):
        product = u.T @ v[order]
        turn, correlations, _ = np.linalg.svd(product, full_matrices=False)
        expected = {
            "svcca": correlations.mean(),
            "pwcca": np.average(correlations, weights=np.abs(turn.T @ loadings).sum(axis=1)),
            "procrustes": np.linalg.svd(s[:, None] * product * t, compute_uv=False).sum(),
        }
        assert found == pytest.approx(expected[name], abs=1e-5)


@pytest.mark.parametrize("name", ["rsa", "svcca", "pwcca", "procrustes"])
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_a_comparison_of_layers_has_the_p_values_of_its_permutations(name, shared):
    a, b = layers(4, shared=shared)
    a[1] = np.ones((40, 6))  # a layer that no measure is defined on
    measure = MEASURES[name]
    found = compare_layers([measure], a, b, seed=3)[name]
    random = np.random.default_rng(3)
    orders = np.array([random.permutation(40) for _ in range(200)])
    null = np.array([[[measure(x, y[o]) for y in b] for x in (a[0], a[2])] for o in orders])
    values = found.values[[0, 2]]
    for p, now, then in (
        (found.p[0], values, null),
        (found.p[1], values.T, null.transpose(0, 2, 1)),
    ):
        means = best_matches(then).mean(axis=1)
        assert p == pytest.approx(permutation_p(best_matches(now).mean(), means).item())
        assert (p == pytest.approx(1 / 201)) == (shared > 0)
    baseline = null[:1] if measure.permute else null
    assert found.permuted == pytest.approx(best_matches(baseline).mean())


@pytest.mark.parametrize("name", ["linear_cka", *MEASURES])
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_p_is_that_of_calibrated_similarity(name, shared):
    # The package permutes by a function that may be given: it gets the same permutations.
    a, b = layers(2, shared=shared)
    orders = random_orders(19, 40)
    left = iter(orders)
    function = linear_cka if name == "linear_cka" else MEASURES[name]
    _, p, _ = calibrate_layers(
        [torch.tensor(x) for x in a],
        [torch.tensor(y) for y in b],
        lambda x, y: function(x.numpy(), y.numpy()),
        agg="max",
        K=len(orders),
        perm_fn=lambda n, device: torch.as_tensor(next(left), device=device),
    )
    observed = np.array([[function(x, y) for y in b] for x in a])
    permuted = under(name, a, b, orders)
    found = permutation_p(best_matches(observed).max(), best_matches(permuted).max(axis=1))
    assert found == pytest.approx(float(p))
    assert shared == 0 or name in ("svcca", "pwcca") or found == pytest.approx(1 / 20)


def test_without_its_selection_the_null_would_be_too_low():
    # Of unrelated networks, the pair first chosen is far above its own permuted values.
    a, b = layers(3)
    both = grams([*a, *b])
    observed = cka_from_hsic(pairwise_hsic(both, 40).numpy())[: len(a), len(a) :]
    permuted = cka_under(a, b, random_orders(200, 40))
    i, j = np.unravel_index(observed.argmax(), observed.shape)
    chosen_once = permutation_p(observed[i, j], permuted[:, i, j])
    chosen_again = permutation_p(observed.max(), permuted.max(axis=(1, 2)))
    assert chosen_once < chosen_again


def test_the_p_value_counts_the_observed_order_and_ties():
    assert permutation_p([0.5, np.nan], [[0.5, 0.1], [0.1, 0.2]]) == pytest.approx(
        [2 / 3, np.nan], nan_ok=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear_cka", *MEASURES])
def test_p_values_of_unrelated_networks_are_uniform(name):
    trials, count = 200, 99
    found = []
    for seed in range(trials):
        a, b = layers(seed, n=24)
        orders = np.vstack([np.arange(24), random_orders(count, 24, seed)])
        best = best_matches(under(name, a, b, orders)).mean(axis=1)
        found.append(permutation_p(best[0], best[1:]))
    # p-values lie on a grid of 1/100: half a step is within what the test can see.
    assert scipy.stats.kstest(np.array(found) - 0.5 / (count + 1), "uniform").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear_cka", *MEASURES])
def test_a_planted_likeness_is_found_with_the_power_that_independent_draws_tell(name):
    # Power: how often related networks are above 95 % of unrelated ones, drawn anew each time.
    # Unrelated ones are of the same kind: SVCCA depends on how many directions a layer has.
    trials, count = 100, 39

    def statistics(seed, other):
        (a, _), (_, b) = (layers(s, n=24, shared=0.5) for s in (seed, other))
        orders = np.vstack([np.arange(24), random_orders(count if seed == other else 0, 24, seed)])
        return best_matches(under(name, a, b, orders)).mean(axis=1)

    related = np.array([statistics(seed, seed) for seed in range(trials)])
    unrelated = [statistics(1000 + seed, 2000 + seed)[0] for seed in range(4 * trials)]
    power = (related[:, 0] > np.quantile(unrelated, 0.95)).mean()
    found = np.mean([permutation_p(one[0], one[1:]) <= 0.05 for one in related])
    # Both are shares of 100 trials; the critical value scatters too.
    assert found == pytest.approx(power, abs=0.15)
    assert found > 0.1
