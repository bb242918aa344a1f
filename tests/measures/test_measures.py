"""What all measures share: the table, invariances, degenerate inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from zoo.measures.neighbours import prepare_neighbours
from zoo.measures.table import (
    MEASURES,
    DegenerateError,
    mutual_knn,
    procrustes_similarity,
    pwcca,
    rbf_cka,
    rsa,
    svcca,
)

seeds = st.integers(0, 10_000)
few = settings(max_examples=8, deadline=None)


def related(seed: int, n: int = 40, p: int = 5, q: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Features that share some, but not all, of their variation."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, p)) * random.uniform(0.5, 3, size=p) + random.normal(size=p)
    return x, x @ random.normal(size=(p, q)) + 2 * random.normal(size=(n, q))


@pytest.mark.parametrize("name", MEASURES)
def test_the_table_holds_the_functions_and_higher_is_closer(name):
    functions = {
        "rbf_cka": rbf_cka,
        "svcca": svcca,
        "pwcca": pwcca,
        "procrustes": procrustes_similarity,
        "rsa": rsa,
        "mutual_knn": mutual_knn,
    }
    x, y = related(0)
    measure = MEASURES[name]
    assert measure.name == name
    assert measure(x, y) == functions[name](x, y)
    assert measure(x, x) == pytest.approx(1)
    noise = np.random.default_rng(1).normal(size=y.shape)
    assert measure(x, x) > measure(x, y) > measure(x, noise)


@pytest.mark.parametrize("name", MEASURES)
@given(seed=seeds, scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
@few
def test_scale_and_a_common_shift_change_nothing(name, seed, scale, shift):
    x, y = related(seed)
    assert MEASURES[name](scale * x + shift, y) == pytest.approx(MEASURES[name](x, y), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in MEASURES if name not in ("rsa", "pwcca")])
@given(seed=seeds)
@few
def test_rotation_and_a_shift_of_each_feature_change_nothing(name, seed):
    x, y = related(seed)
    rotation = ortho_group.rvs(x.shape[1], random_state=seed)
    moved = x @ rotation + np.arange(x.shape[1])
    assert MEASURES[name](moved, y) == pytest.approx(MEASURES[name](x, y), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "pwcca"])
@given(seed=seeds)
@few
def test_sides_may_be_swapped_and_images_permuted_together(name, seed):
    x, y = related(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    assert MEASURES[name](x, y) == pytest.approx(MEASURES[name](y, x), abs=1e-9)
    assert MEASURES[name](x[order], y[order]) == pytest.approx(MEASURES[name](x, y), abs=1e-9)


@given(seed=seeds)
@few
def test_canonical_correlation_does_not_see_an_invertible_map_without_truncation(seed):
    x, y = related(seed)
    mixing = np.random.default_rng(seed).normal(size=(5, 5)) + 3 * np.eye(5)
    assert svcca(x @ mixing, y, variance=1.0) == pytest.approx(svcca(x, y, variance=1.0), abs=1e-6)


def test_pwcca_sees_a_rotation_of_the_side_that_gives_the_weights_only():
    x, y = related(0)
    rotation = ortho_group.rvs(4, random_state=0)
    assert pwcca(x, y @ rotation) == pytest.approx(pwcca(x, y), abs=1e-9)
    assert abs(pwcca(y @ rotation, x) - pwcca(y, x)) > 1e-4


def test_rsa_sees_a_rotation_as_its_docstring_says():
    x, y = related(0)
    rotation = ortho_group.rvs(5, random_state=0)
    assert abs(rsa(x @ rotation, y) - rsa(x, y)) > 1e-3


def test_a_large_mean_changes_nothing():
    x, y = related(0)
    for measure in (rbf_cka, svcca, pwcca, procrustes_similarity, mutual_knn):
        assert measure(x + 1e4, y) == pytest.approx(measure(x, y), abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda x: np.full_like(x, 0.1), "y is constant"),
        (lambda x: np.where(x == x.max(), np.nan, x), "y is not finite"),
        (lambda x: np.where(x == x.max(), np.inf, x), "y is not finite"),
    ],
)
def test_degenerate_features_are_named_with_their_side(name, break_it, words):
    x, y = related(0)
    with pytest.raises(DegenerateError, match=words):
        MEASURES[name](x, break_it(y))


@pytest.mark.parametrize("name", MEASURES)
def test_different_images_are_refused(name):
    x, y = related(0)
    with pytest.raises(ValueError, match="expected the same images, got 40 and 39"):
        MEASURES[name](x, y[1:])


def test_each_measures_own_degenerate_input_is_named():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 12, 8))
    with pytest.raises(DegenerateError, match="need more than"):
        pwcca(x, y, variance=1.0)
    with pytest.raises(DegenerateError, match="x has one feature"):
        rsa(x[:, :1], y)
    flat = x.copy()
    flat[3] = 0.5
    with pytest.raises(DegenerateError, match="features are all equal: 1, the first is number 3"):
        rsa(flat, y)
    with pytest.raises(DegenerateError, match="x has all dissimilarities equal"):
        rsa(np.eye(12), y)
    with pytest.raises(DegenerateError, match="x needs more than 10 images, got 10"):
        mutual_knn(np.vstack([x, x])[:10], y[:10])
    mostly_one = np.tile(random.normal(size=50), (12, 1))  # distances are rounding, not 0
    mostly_one[0] += random.normal(size=50)
    with pytest.raises(DegenerateError, match="x has no bandwidth"):
        rbf_cka(mostly_one, y)
    with pytest.raises(DegenerateError, match="x has all images equally far apart"):
        rbf_cka(np.eye(12), y)
    with pytest.raises(DegenerateError, match="x needs at least 4 images, got 3"):
        rbf_cka(x[:3], y[:3])


def test_canonical_correlation_needs_more_images_than_directions():
    x, y = np.random.default_rng(0).normal(size=(2, 17, 8))
    assert svcca(x, y, variance=1.0) < 1
    # With one image fewer, a direction of x lies within those of y whatever they hold.
    with pytest.raises(DegenerateError, match="8 and 8 directions need more than 16 images"):
        svcca(x[:16], y[:16], variance=1.0)


@pytest.mark.parametrize(("n", "d"), [(33, 333), (101, 777)])
def test_of_images_that_coincide_the_first_ones_are_neighbours_in_spite_of_rounding(n, d):
    random = np.random.default_rng(0)
    x = np.tile(random.normal(size=d), (n, 1))
    x[0] += random.normal(size=d)
    for i, found in enumerate(prepare_neighbours(x).order[1:], start=1):
        assert found.tolist() == [*(j for j in range(1, n) if j != i), 0]


def test_hundreds_of_neighbours_are_counted():
    x = np.random.default_rng(0).normal(size=(400, 5))
    assert mutual_knn(x, 3 * x, neighbours=300) == 1
    assert mutual_knn(x, x[:, :2], neighbours=399) == 1  # all others are, on both sides


def test_settings_out_of_range_are_refused():
    x, y = related(0)
    with pytest.raises(ValueError, match=r"variance: expected a share in \(0, 1\], got 1.5"):
        svcca(x, y, variance=1.5)
    with pytest.raises(ValueError, match="neighbours: expected at least 1, got 0"):
        mutual_knn(x, y, neighbours=0)
