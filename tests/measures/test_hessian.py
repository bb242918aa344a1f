"""Eigenvalues against the whole Hessian, made entry by entry."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from zoo.measures.hessian import largest_eigenvalues


def test_the_largest_eigenvalues_are_those_of_the_whole_hessian():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(12, 4).double(), torch.randint(0, 3, (12,))
    names, parameters = zip(*net.named_parameters(), strict=True)
    sizes = [p.numel() for p in parameters]

    def loss(flat):
        parts = zip(names, flat.split(sizes), parameters, strict=True)
        weights = {name: part.view_as(p) for name, part, p in parts}
        return cross_entropy(functional_call(net, weights, (x,)), y)

    flat = torch.cat([p.detach().flatten() for p in parameters])
    whole = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).numpy()
    expected = whole[np.argsort(-np.abs(whole))][:6]
    found = largest_eigenvalues(cross_entropy(net(x), y), parameters, 6)
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_saddle_has_eigenvalues_of_both_signs():
    place = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    bends = torch.tensor([3.0, -5.0, 1.0, 0.5])
    found = largest_eigenvalues((bends * place**2).sum() / 2, [place], 2)
    assert found == pytest.approx([-5, 3], rel=1e-3)


def test_a_loss_that_is_no_number_is_named():
    place = torch.ones(4, requires_grad=True)
    with pytest.raises(ValueError, match="the loss is not finite"):
        largest_eigenvalues((place / 0).sum(), [place], 1)
