"""Permutation nulls against the package of their authors, and what their p-values are."""

import numpy as np
import pytest
import scipy.stats
import torch
from calibrated_similarity import calibrate_layers

from tests.measures.test_measures import related
from zoo.measures.layers import compare_layers
from zoo.measures.linear_cka import centred_gram, cka_from_hsic, linear_cka, pairwise_hsic
from zoo.measures.permutation import (
    best_matches,
    permutation_p,
    permuted_hsic,
    permuted_over_pairs,
    permuted_similarities,
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


@pytest.mark.parametrize("name", MEASURES)
def test_permuting_what_is_prepared_is_permuting_the_images(name):
    a, b = layers(1, shared=1.0)
    orders = random_orders(3, 40)
    found = permuted_similarities(MEASURES[name], prepared(name, a), prepared(name, b), orders)
    for k, order in enumerate(orders):
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                assert found[k, i, j] == pytest.approx(MEASURES[name](x, y[order]), abs=1e-9)


@pytest.mark.parametrize("name", [m.name for m in MEASURES.values() if m.over_pairs])
def test_sums_over_pairs_are_the_measure_under_every_permutation(name):
    a, b = layers(1, shared=1.0)
    orders, measure = random_orders(5, 40), MEASURES[name]
    sides = [np.stack([measure.over_pairs(x) for x in prepared(name, side)]) for side in (a, b)]
    expected = permuted_similarities(measure, prepared(name, a), prepared(name, b), orders)
    assert permuted_over_pairs(*sides, orders) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_a_comparison_of_layers_has_the_p_values_of_its_permutations(shared):
    a, b = layers(4, shared=shared)
    a[1] = np.ones((40, 6))  # a layer that no measure is defined on
    found = compare_layers([MEASURES["rsa"], MEASURES["procrustes"]], a, b, seed=3)
    random = np.random.default_rng(3)
    orders = np.array([random.permutation(40) for _ in range(200)])
    kept = prepared("rsa", [a[0], a[2]])
    null = permuted_similarities(MEASURES["rsa"], kept, prepared("rsa", b), orders)
    values = found["rsa"].values[[0, 2]]
    for p, now, then in (
        (found["rsa"].p[0], values, null),
        (found["rsa"].p[1], values.T, null.transpose(0, 2, 1)),
    ):
        means = best_matches(then).mean(axis=1)
        assert p == pytest.approx(permutation_p(best_matches(now).mean(), means).item())
        assert (p == pytest.approx(1 / 201)) == (shared > 0)
    assert found["rsa"].permuted == pytest.approx(best_matches(null).mean())
    assert np.isnan(found["procrustes"].p).all()


def test_a_layer_that_a_measure_is_not_defined_on_has_no_null():
    x, y = related(0)
    own = prepared("rsa", [x, y])
    found = permuted_similarities(MEASURES["rsa"], [own[0], None], own, random_orders(2, 40))
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1]).all()


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
    if name == "linear_cka":
        permuted = cka_under(a, b, orders)
    else:
        permuted = permuted_similarities(
            MEASURES[name], prepared(name, a), prepared(name, b), orders
        )
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
        if name == "linear_cka":
            values = cka_under(a, b, orders)
        else:
            values = permuted_similarities(
                MEASURES[name], prepared(name, a), prepared(name, b), orders
            )
        best = best_matches(values).mean(axis=1)
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
        if name == "linear_cka":
            values = cka_under(a, b, orders)
        else:
            sides = prepared(name, a), prepared(name, b)
            values = permuted_similarities(MEASURES[name], *sides, orders)
        return best_matches(values).mean(axis=1)

    related = np.array([statistics(seed, seed) for seed in range(trials)])
    unrelated = [statistics(1000 + seed, 2000 + seed)[0] for seed in range(4 * trials)]
    power = (related[:, 0] > np.quantile(unrelated, 0.95)).mean()
    found = np.mean([permutation_p(one[0], one[1:]) <= 0.05 for one in related])
    # Both are shares of 100 trials; the critical value scatters too.
    assert found == pytest.approx(power, abs=0.15)
    assert found > 0.1
