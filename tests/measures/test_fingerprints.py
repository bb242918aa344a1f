"""Fingerprints against the formulas that they stand for, and a plane of known distances."""

import numpy as np
import pytest
import torch

from tests.analyses.test_localisation import hsic
from zoo.measures.features import DegenerateError
from zoo.measures.fingerprints import (
    classical_scaling,
    fingerprint_length,
    fingerprint_of,
    similarities,
    similarity_matrix,
    similarity_replicates,
)
from zoo.measures.linear_cka import centred_gram, linear_cka
from zoo.measures.sampling import even_batches


def features(count, *, images=30, seed=0):
    """Layers of different widths that share some of what they say."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=(images, 4))
    return [
        np.hstack([shared * random.uniform(0, 2), random.normal(size=(images, 2 + i))]) + 5
        for i in range(count)
    ]


def printed(values, batch=30):
    """Return the fingerprint of features, and how many images each batch has."""
    batches = even_batches(len(values), batch)
    grams = [centred_gram(torch.from_numpy(values[a:b])).values.numpy() for a, b in batches]
    sizes = [b - a for a, b in batches]
    return fingerprint_of([g.reshape(n, n) for g, n in zip(grams, sizes, strict=True)]), sizes


def test_the_product_of_two_fingerprints_is_their_unbiased_cka():
    x, y = features(2)
    (a, sizes), (b, _) = printed(x), printed(y)
    assert sizes == [30]
    assert len(a) == fingerprint_length(sizes) == 435
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6)
    assert a @ b == pytest.approx(linear_cka(x, y), abs=1e-6)


def test_over_batches_it_is_the_ratio_of_the_means_of_hsic():
    """Of batches of 14, 14 and 13, by a formula that shares no code with it."""
    x, y = features(2, images=41)
    (a, sizes), (b, _) = printed(x, 14), printed(y, 14)
    assert sorted(sizes) == [13, 14, 14]
    parts = [slice(*ends) for ends in even_batches(41, 14)]
    both, own, other = (
        np.mean([hsic(p[part], q[part]) for part in parts]) for p, q in ((x, y), (x, x), (y, y))
    )
    assert a @ b == pytest.approx(both / np.sqrt(own * other), abs=1e-6)


def test_a_matrix_is_the_same_however_many_fit_into_memory():
    prints = [printed(values)[0] for values in features(7)]
    expected = np.array([[float(a.astype(float) @ b) for b in prints] for a in prints])
    np.fill_diagonal(expected, 1)
    for block in (1, 8 * 435 * 3, 1 << 20):  # one, three and all at a time
        found = similarity_matrix(prints.__getitem__, 7, block=block)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    row = similarities(prints[2], prints.__getitem__, 7)
    np.testing.assert_allclose(row, expected[2], atol=1e-6)


def test_memory_holds_two_blocks():
    read: list[int] = []
    prints = [printed(values)[0] for values in features(6)]
    similarity_matrix(lambda i: (read.append(i), prints[i])[1], 6, block=2 * 8 * 435)
    # The first asks how long they are; then three blocks of two, and each pair of blocks.
    assert read == [0, 0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 4, 5]


def test_an_interval_is_that_of_leaving_out_each_group_of_images():
    x, y, z = features(3, images=32)
    prints = [printed(values, 32)[0] for values in (x, y, z)]
    found = similarity_replicates(prints[0], prints[1:], [32])
    assert found.whole == pytest.approx([linear_cka(x, y), linear_cka(x, z)], abs=1e-6)
    for group in range(32):
        kept = np.arange(32) != group
        expected = [linear_cka(x[kept], other[kept]) for other in (y, z)]
        assert found.without[group] == pytest.approx(expected, abs=1e-6)
    low, high = found.similarity_interval()
    assert (low < found.whole).all()
    assert (high > found.whole).all()


def test_a_constant_layer_has_no_fingerprint():
    with pytest.raises(DegenerateError, match="is constant"):
        printed(np.ones((30, 4)))


def test_three_networks_lie_as_far_apart_as_their_fingerprints():
    prints = np.array([printed(values)[0] for values in features(3)], dtype=float)
    placed = classical_scaling(prints @ prints.T)
    apart = np.linalg.norm(placed.points[:, None] - placed.points, axis=-1)
    np.testing.assert_allclose(apart, np.linalg.norm(prints[:, None] - prints, axis=-1), atol=1e-6)
    assert placed.share == pytest.approx(1)


def test_the_share_is_that_of_torgersons_formula():
    prints = np.array([printed(values)[0] for values in features(9)], dtype=float)
    cka = prints @ prints.T
    placed = classical_scaling(cka)
    centre = np.eye(9) - 1 / 9
    values = np.linalg.eigvalsh(-centre @ (2 - 2 * cka) @ centre / 2)
    assert placed.share == pytest.approx(values[-2:].sum() / values.sum(), abs=1e-9)
    assert placed.share < 0.9
    assert np.abs(placed.points).max(axis=0) == pytest.approx(placed.points.max(axis=0))


def test_networks_that_are_all_alike_have_no_share():
    placed = classical_scaling(np.ones((4, 4)))
    assert np.isnan(placed.share)
    assert placed.points == pytest.approx(0)
    with pytest.raises(ValueError, match="two or more networks to place, got 1"):
        classical_scaling(np.ones((1, 1)))
