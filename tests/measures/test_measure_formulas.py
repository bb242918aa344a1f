"""Each measure against an independent implementation."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes, subspace_angles
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

from tests.measures.test_measures import few, related, seeds
from zoo.measures.table import (
    mutual_knn,
    procrustes_similarity,
    pwcca,
    rbf_cka,
    rsa,
    svcca,
)


@given(seed=seeds)
@few
def test_rbf_cka_is_the_unbiased_estimator_written_out_with_sums_over_images(seed):
    x, y = related(seed, n=7)

    def kernel(z):
        distances = pdist(z)
        return squareform(np.exp(-(distances**2) / (2 * np.median(distances) ** 2)))

    def hsic(k, m):  # Song et al. 2012, as averages over tuples of different images
        n = range(len(k))
        pairs = np.mean([k[i, j] * m[i, j] for i, j in permutations(n, 2)])
        fours = np.mean([k[i, j] * m[q, r] for i, j, q, r in permutations(n, 4)])
        threes = np.mean([k[i, j] * m[i, q] for i, j, q in permutations(n, 3)])
        return pairs + fours - 2 * threes

    k, m = kernel(x), kernel(y)
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert rbf_cka(x, y) == pytest.approx(expected, abs=1e-8)


def test_rbf_cka_of_unrelated_features_is_zero_on_average():
    random = np.random.default_rng(0)
    values = [rbf_cka(*random.normal(size=(2, 20, 6))) for _ in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(200)


@pytest.mark.parametrize("seed", range(3))
def test_svcca_is_the_mean_correlation_of_scikit_learns_canonical_variates(seed):
    x, y = related(seed, n=80)
    variates = CCA(n_components=4, max_iter=5000, tol=1e-12).fit(x, y).transform(x, y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(v.T for v in variates), strict=True)]
    assert svcca(x, y, variance=1.0) == pytest.approx(np.mean(expected), abs=1e-5)


@given(seed=seeds)
@few
def test_svcca_is_the_mean_cosine_of_the_angles_between_the_kept_principal_subspaces(seed):
    x, y = related(seed)

    def principal(z, share):
        values, vectors = np.linalg.eigh(np.cov(z.T))
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = int(np.argmax(np.cumsum(values) / values.sum() >= share)) + 1
        return (z - z.mean(axis=0)) @ vectors[:, :kept]

    angles = subspace_angles(principal(x, 0.8), principal(y, 0.8))
    assert svcca(x, y, variance=0.8) == pytest.approx(np.cos(angles).mean(), abs=1e-7)


@given(seed=seeds)
@few
def test_pwcca_weights_canonical_variates_by_what_they_hold_of_x(seed):
    x, y = related(seed)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)

    def inverse_root(covariance):
        values, vectors = np.linalg.eigh(covariance)
        return vectors / np.sqrt(values) @ vectors.T

    # Classical CCA from covariances; variates of length 1.
    whiten = inverse_root(a.T @ a)
    u, rho, _ = np.linalg.svd(whiten @ a.T @ b @ inverse_root(b.T @ b))
    variates = a @ whiten @ u[:, : len(rho)]
    alpha = np.array([sum(abs(h @ column) for column in a.T) for h in variates.T])
    assert pwcca(x, y, variance=1.0) == pytest.approx((alpha * rho).sum() / alpha.sum(), abs=1e-7)


def test_pwcca_uses_the_weights_of_its_first_argument():
    x, y = related(3)
    assert abs(pwcca(x, y) - pwcca(y, x)) > 1e-4


@given(seed=seeds)
@few
def test_procrustes_distance_is_what_is_left_after_scipys_best_rotation(seed):
    x, y = related(seed)
    y = np.hstack([y, np.zeros((len(y), 1))])  # the same width, as SciPy wants it
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    rotation, _ = orthogonal_procrustes(b, a)
    distance = math.sqrt(2 - 2 * procrustes_similarity(x, y))
    assert distance == pytest.approx(np.linalg.norm(a - b @ rotation), abs=1e-9)
    # SciPy's disparity also fits the scale: 1 − similarity².
    assert procrustes_similarity(x, y) == pytest.approx(math.sqrt(1 - procrustes(x, y)[2]))


def test_procrustes_is_the_same_with_more_features_than_images():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 30)), random.normal(size=(12, 30))
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(a.T @ b, "nuc") / np.linalg.norm(a) / np.linalg.norm(b)
    assert procrustes_similarity(x, y) == pytest.approx(expected)


@given(seed=seeds)
@few
def test_rsa_is_scipys_rank_correlation_of_correlation_distances(seed):
    x, y = related(seed)
    expected = spearmanr(pdist(x, "correlation"), pdist(y, "correlation")).statistic
    assert rsa(x, y) == pytest.approx(expected, abs=1e-9)


def test_rsa_gives_equal_dissimilarities_equal_ranks():
    x = np.random.default_rng(0).normal(size=(10, 2))  # two features: correlations are ±1
    y = np.random.default_rng(1).normal(size=(10, 4))
    distances = np.round(pdist(x, "correlation"), 9)
    assert len(np.unique(distances)) == 2
    expected = spearmanr(distances, pdist(y, "correlation")).statistic
    assert rsa(x, y) == pytest.approx(expected, abs=1e-9)


@given(seed=seeds, neighbours=st.integers(1, 12))
@few
def test_mutual_knn_counts_the_neighbours_that_scikit_learn_finds_on_both_sides(seed, neighbours):
    x, y = related(seed)
    found = [
        NearestNeighbors(n_neighbors=neighbours, algorithm="brute")
        .fit(z)
        .kneighbors(return_distance=False)
        for z in (x, y)
    ]
    shares = [len(set(a) & set(b)) / neighbours for a, b in zip(*found, strict=True)]
    assert mutual_knn(x, y, neighbours=neighbours) == pytest.approx(np.mean(shares))


def test_mutual_knn_of_unrelated_features_is_what_chance_gives():
    random = np.random.default_rng(0)
    values = [mutual_knn(*random.normal(size=(2, 60, 5))) for _ in range(50)]
    assert np.mean(values) == pytest.approx(10 / 59, abs=0.01)
