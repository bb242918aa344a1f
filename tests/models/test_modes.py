"""What is changed in a network for a while is as it was at the end, also after an error."""

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.models.modes import on_own_devices


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
