"""Pieces in threads: the same results in the same order, and errors come through."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from zoo.measures.layers import compare_layers
from zoo.measures.table import MEASURES
from zoo.measures.threads import in_threads


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_as_many_run_at_once_as_torch_has_threads(threads):
    together = threading.Barrier(threads)

    def meet(item):
        together.wait(timeout=20)  # breaks where fewer run at once
        return item

    assert in_threads(meet, range(6)) == list(range(6))


def test_blas_has_one_thread_in_each_of_several():
    torch.set_num_threads(2)

    def blas(_):
        return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    try:
        assert in_threads(blas, range(2)) == [1, 1]
    finally:
        torch.set_num_threads(1)


def test_an_error_of_one_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda x: 1 // x, [1, 0, 2])


def test_layers_are_as_alike_in_two_threads_as_in_one():
    random = np.random.default_rng(0)
    a, b = ([random.standard_normal((24, d)) for d in (5, 8, 30)] for _ in range(2))
    b[1][:] = 1.0  # degenerate
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(compare_layers(list(MEASURES.values()), a, b))
    torch.set_num_threads(1)
    for name in MEASURES:
        one, two = found[0][name], found[1][name]
        np.testing.assert_allclose(one.values, two.values, rtol=1e-12)
        np.testing.assert_allclose(one.interval, two.interval, rtol=1e-9)
        assert one.problems == two.problems
        assert one.permuted == pytest.approx(two.permuted, rel=1e-12, nan_ok=True)
