"""A function of what is watched is computed once for layers that hand on one tensor."""

import gc
import weakref

import torch

from zoo.capture.hook_points import OfLast


def counted():
    calls = []

    def total(value, factor=1):
        calls.append(factor)
        return factor * float(value.sum())

    return OfLast(total), calls


def test_the_same_tensor_is_looked_at_once():
    of, calls = counted()
    value = torch.ones(3)
    assert [of(value), of(value), of(value, 2), of(torch.ones(3))] == [3, 3, 6, 3]
    assert calls == [1, 2, 1]


def test_a_tensor_that_was_changed_in_place_is_looked_at_again():
    of, _ = counted()
    value = torch.ones(3)
    assert of(value) == 3
    value.add_(1)
    assert of(value) == 6
    with torch.inference_mode():  # such tensors do not count their changes
        made = torch.ones(3)
        assert of(made) == 3
        made.add_(1)
        assert of(made) == 6


def test_the_tensor_is_not_kept_alive():
    of, _ = counted()
    value = torch.ones(3)
    of(value)
    seen = weakref.ref(value)
    del value
    gc.collect()
    assert seen() is None
