"""What is taken of a tensor is computed once: for layers that hand it on, and for all who ask."""

import gc
import weakref

import torch
from torch import nn

from zoo.capture.hook_points import HookPoint, OfLast, observe


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


def test_what_is_taken_is_computed_once_for_all_who_want_it():
    module, taken, seen = nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True)), [], []

    def take(value):
        taken.append(1)
        return value.sum(dim=1)

    x = torch.randn(5, 3)
    points = [HookPoint("0"), *(HookPoint("0", taken="sum", take=take) for _ in range(2))]
    with torch.no_grad(), observe(module, points, lambda p, v: seen.append((p.key, v.clone()))):
        expected = module[0](x)
        seen.clear(), taken.clear()
        module(x)
    assert [key for key, _ in seen] == ["0 output ", "0 output sum"]
    assert torch.equal(seen[1][1], expected.sum(dim=1))
    assert len(taken) == 1
