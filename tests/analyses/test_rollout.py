"""Attention rollout, and the maps that are read from it, against loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.analyses.rollout import attention_rollout, rollout_step, token_maps
from zoo.study.networks import Grid


def random_weights(seed: int, *shape: int) -> torch.Tensor:
    """Attention weights (…, T, T): a softmax of numbers far apart."""
    numbers = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=numbers, dtype=torch.float64).mul(2).softmax(-1)


def rollout_by_loops(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Rollout of one image from (heads, T, T) a layer, written out."""
    tokens = weights[0].shape[-1]
    result, layers = np.eye(tokens), []
    for layer in weights:
        mixed = np.zeros((tokens, tokens))
        for i in range(tokens):
            for j in range(tokens):
                mixed[i, j] = np.mean([head[i, j] for head in layer]) + (i == j)
            mixed[i] /= mixed[i].sum()
        result = mixed @ result
        layers.append(result)
    return layers


def test_rollout_agrees_with_loops():
    weights = random_weights(0, 4, 3, 6, 6)
    found = attention_rollout(weights).numpy()
    np.testing.assert_allclose(found, rollout_by_loops(list(weights.numpy())), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(0, 9))
def test_rollout_rows_are_distributions_and_ignore_the_order_of_heads(layers, heads, tokens, seed):
    weights = random_weights(seed, layers, heads, tokens, tokens)
    found = attention_rollout(weights)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
    torch.testing.assert_close(attention_rollout(weights.flip(1)), found)


def test_rollout_of_even_attention_has_a_closed_form():
    tokens, layers = 5, 3
    even = torch.full((layers, 2, tokens, tokens), 1 / tokens, dtype=torch.float64)
    kept = 0.5**layers
    expected = kept * torch.eye(tokens) + (1 - kept) * even[0, 0]
    torch.testing.assert_close(attention_rollout(even)[-1], expected)


def test_rollout_of_attention_to_oneself_is_the_identity():
    unit = torch.eye(4).expand(3, 2, 4, 4)
    assert torch.equal(attention_rollout(unit), torch.eye(4).expand(3, 4, 4))


def test_rollout_is_not_a_product_in_the_other_order():
    weights = random_weights(0, 2, 1, 4, 4)
    first, second = rollout_step(weights[0]), rollout_step(weights[1])
    torch.testing.assert_close(attention_rollout(weights)[-1], second @ first)
    assert (second @ first - first @ second).abs().max() > 1e-3


def test_rollout_refuses_what_is_no_stack_of_weights():
    with pytest.raises(ValueError, match="at least one layer, got none"):
        attention_rollout([])
    with pytest.raises(ValueError, match=r"expected weights .* got \(2, 3, 4\)"):
        attention_rollout([torch.ones(2, 3, 4)])


def test_maps_are_read_from_the_class_token_or_from_all_patches():
    rows = torch.arange(2 * 8 * 8, dtype=torch.float64).view(2, 8, 8)
    grid = Grid(num_prefix_tokens=2, height=2, width=3, patch=4.0)
    by_class = token_maps(rows, grid, class_token=True)
    by_mean = token_maps(rows, grid, class_token=False)
    for image in range(2):
        for place in range(6):
            cell = (image, place // 3, place % 3)
            column = rows[image, :, 2 + place]
            assert by_class[cell] == column[0]
            assert by_mean[cell] == sum(float(column[row]) for row in range(2, 8)) / 6
