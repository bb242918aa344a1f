"""Networks as users hold them: what is looked into, and what tells two of them apart."""

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from zoo.errors import UserError
from zoo.models.modes import eval_mode
from zoo.models.wrapped import Sealed, network_inside, weights_digest


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def test_the_network_inside_is_the_users_own():
    module = network()
    assert network_inside(module) is module
    assert network_inside(torch.compile(module, backend="eager")) is module
    assert network_inside(nn.DataParallel(module)) is module
    assert network_inside(torch.compile(nn.DataParallel(module), backend="eager")) is module


def test_a_scripted_network_is_sealed_and_computes_the_same():
    module, x = network(), torch.randn(2, 3, 2, 2)
    for scripted in (torch.jit.script(module), torch.jit.trace(module, x)):
        sealed = network_inside(scripted)
        assert isinstance(sealed, Sealed)
        assert torch.equal(sealed(x), module(x))


def test_a_lazy_network_says_to_be_run_first():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(UserError, match=r"Sequential: 1.weight is not initialised, as in a lazy"):
        network_inside(lazy)
    lazy(torch.zeros(1, 3, 2, 2))
    assert network_inside(lazy) is lazy


class Extra(nn.Linear):
    """Has a state that is no tensor."""

    def __init__(self, extra):
        torch.manual_seed(0)
        super().__init__(2, 2)
        self.extra = extra

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


def digest(module):
    return weights_digest(module.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_other_weights_have_another_digest(dtype):
    assert digest(network(0).to(dtype)) == digest(network(0).to(dtype))
    assert digest(network(0).to(dtype)) != digest(network(1).to(dtype))


def test_quantised_networks_and_extra_states_have_digests():
    first, same, other = (
        quantize_dynamic(network(seed), {nn.Linear}, dtype=torch.qint8) for seed in (0, 0, 1)
    )
    assert digest(first) == digest(same) != digest(other)
    assert digest(Extra({"a": [1, "x"]})) == digest(Extra({"a": [1, "x"]}))
    assert digest(Extra({"a": [1, "x"]})) != digest(Extra({"a": [2, "x"]}))
    assert digest(Extra(slice(0, 2))) != digest(Extra(slice(0, 3)))


def test_an_exported_graph_keeps_its_mode():
    graph = torch.export.export(network(), (torch.zeros(1, 3, 2, 2),)).module()
    with eval_mode(graph):
        assert graph(torch.zeros(1, 3, 2, 2)).shape == (1, 2)


def test_compiled_parts_run_as_they_are_written():
    module, seen = network(), []
    module[1].compile(backend="eager", fullgraph=True)
    module[1].register_forward_hook(lambda *_: seen.append(torch.compiler.is_compiling()))
    with eval_mode(module):
        module(torch.zeros(1, 3, 2, 2))
    assert seen == [False]
