"""What is changed in a network for a while is as it was at the end, also after an error."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.backends import mha

import zoo
from zoo.capture import HookPoint, observe, trace
from zoo.models.modes import eval_mode, on_own_devices


def device_of(module):
    return next(module.parameters()).device.type


def test_a_network_comes_back_to_its_device_also_after_an_error():
    with torch.device("meta"):
        moved, stays = nn.Linear(2, 2), nn.Linear(2, 2)

    def fail():
        with on_own_devices([moved, stays, nn.Flatten()]):
            moved.to_empty(device="cpu")
            raise ZeroDivisionError(device_of(moved))

    with pytest.raises(ZeroDivisionError, match="cpu"):
        fail()
    assert (device_of(moved), device_of(stays)) == ("meta", "meta")


@pytest.mark.parametrize("fails", [False, True])
def test_comparing_leaves_the_callers_networks_as_they_were(fails):
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)) for _ in range(2)]
    nets[0].train()
    nets[1].eval()
    moves = {net: [] for net in nets}
    for net in nets:
        net.to = lambda device, net=net: moves[net].append(torch.device(device)) or net

    def stop(done, *_):
        if fails and done:
            raise ZeroDivisionError

    models = [zoo.wrap(net, name=name, image_size=8) for net, name in zip(nets, "ab", strict=True)]
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    try:
        zoo.compare(models, images, only=["cka"], on_progress=stop)
    except ZeroDivisionError:
        assert fails
    assert [net.training for net in nets] == [True, False]
    # There and back, though both are the CPU here.
    assert [len(there_and_back) for there_and_back in moves.values()] == [2, 2]


class Padded(nn.Module):
    """A classifier on torch's own transformer, in which the last patch is padding."""

    def __init__(self, norm_first):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        padding = torch.arange(tokens.shape[1]).expand(tokens.shape[:2]) == tokens.shape[1] - 1
        return self.head(self.encoder(tokens, src_key_padding_mask=padding)[:, :-1].mean(dim=1))


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_gives_the_same_bits_whichever_of_its_layers_are_watched(norm_first):
    torch.manual_seed(0)
    network, x, shapes = Padded(norm_first), torch.randn(8, 3, 16, 16), {}
    layers = [layer.name for layer in trace(network, x)]
    assert "encoder.layers.0" in layers
    assert "encoder.layers.1.self_attn" in layers

    def run(*watched):
        points = [HookPoint(layer) for layer in watched]
        with observe(network, points, lambda at, value: shapes.update({at.layer: value.shape})):
            return network(x)

    with torch.no_grad(), eval_mode(network):
        expected = run()
        for layer in layers:
            assert torch.equal(run(layer), expected), layer
    assert shapes["encoder.layers.0"] == (8, 16, 32)
    with eval_mode(network):  # as gradients need it
        assert torch.equal(run(), expected)


@pytest.mark.parametrize("before", [True, False])
def test_torchs_fast_path_is_afterwards_as_it_was(before):
    def fail():
        with eval_mode(nn.Flatten()):
            with eval_mode(nn.Flatten()):
                assert not mha.get_fastpath_enabled()
            assert not mha.get_fastpath_enabled()
            raise ZeroDivisionError

    mha.set_fastpath_enabled(before)
    try:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert mha.get_fastpath_enabled() == before
    finally:
        mha.set_fastpath_enabled(True)
