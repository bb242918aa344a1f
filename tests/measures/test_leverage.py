"""Dominant images: which they are, and what a similarity is without them."""

import numpy as np
import pytest
import torch

from zoo.measures.leverage import leverage, without_dominant
from zoo.measures.linear_cka import centred_gram, linear_cka


def grams(*features):
    return torch.stack([centred_gram(torch.as_tensor(x)).values for x in features])


def test_leverage_is_an_images_part_in_the_self_hsic():
    x = np.random.default_rng(0).normal(size=(9, 4))
    gram = grams(x)
    found = leverage(gram)[0]
    square = gram.view(9, 9).numpy()
    total = sum(square[i, j] ** 2 for i in range(9) for j in range(9))
    for i in range(9):
        assert found[i] == pytest.approx(sum(square[i, j] ** 2 for j in range(9)) / total)
    assert found.sum() == pytest.approx(1)


def test_images_far_out_dominate_and_without_them_the_similarity_is_gone():
    # Two unrelated layers that agree on two extraordinary images, and a third that is constant.
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 40, 5))
    far = random.normal(size=5) * 12
    x[[3, 17]] += far
    y[[3, 17]] += far
    assert linear_cka(x, y) > 0.5
    shares = leverage(torch.vstack([grams(x, y), torch.zeros(1, 1600)]))
    kept = without_dominant(shares, 0.05)
    assert set(range(40)) - set(kept) == {3, 17}
    assert abs(linear_cka(x[kept], y[kept])) < 0.1


def test_four_images_always_stay():
    assert len(without_dominant(np.full((1, 5), 0.2), 0.9)) == 4
    assert list(without_dominant(np.full((1, 4), 0.25))) == [0, 1, 2, 3]
    assert list(without_dominant(np.full((1, 5), np.nan))) == [0, 1, 2, 3, 4]
