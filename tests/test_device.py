"""Which device is chosen; and what runs on one without 64-bit numbers, as Apple's GPUs are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.test_loop import CONFIG, FULL_RECIPE, run
from zoo.device import parse_device
from zoo.models.predict import probabilities


class NoDoubles(TorchDispatchMode):
    """Raises where an operation gives 64-bit numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for one in given if isinstance(given, (tuple, list)) else [given]:
            if isinstance(one, torch.Tensor) and one.dtype in (torch.float64, torch.complex128):
                raise TypeError(f"{func} gives 64-bit numbers")
        return given


@pytest.mark.parametrize(
    ("cuda", "apple", "doubles", "chosen"),
    [
        (False, False, False, "cpu"),
        (False, True, False, "mps"),
        (False, True, True, "cpu"),
        (True, False, True, "cuda"),
        (True, False, False, "cuda"),
    ],
)
def test_the_default_is_a_gpu_that_serves(monkeypatch, cuda, apple, doubles, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    assert parse_device("", doubles=doubles) == chosen


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, FULL_RECIPE])
def test_training_needs_no_64_bit_numbers(make_model, digits_folder, changes):
    config = replace(CONFIG, epochs=1, **changes)
    with NoDoubles():
        assert run(make_model, digits_folder, config).epochs


def test_predicting_needs_no_64_bit_numbers(make_model):
    images = np.zeros((3, 16, 16, 3), np.uint8)
    with NoDoubles():
        assert probabilities(make_model("vit"), images).shape == (3, 10)


def test_what_would_need_them_is_seen():
    with pytest.raises(TypeError, match="64-bit"), NoDoubles():
        torch.zeros(3).double()
