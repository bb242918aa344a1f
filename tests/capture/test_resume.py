"""A pass that goes on from a block gives what the whole pass gives, and runs nothing before it."""

import pytest
import torch
from torch import nn

from tests.capture.networks import SIDE, image, residual_net, tiny
from zoo.capture import trace
from zoo.capture.resume import record_blocks, resumable_blocks, resumed, with_tensor


@pytest.mark.parametrize("arch", ["vit", "resnet18", "mixer"])
def test_the_rest_of_a_network_answers_as_the_whole(arch):
    module = tiny(arch)
    blocks = resumable_blocks(trace(module, image()))
    pixels, other = torch.rand(2, 5, 3, SIDE, SIDE)
    outputs, logits = record_blocks(module, blocks, pixels)
    ran = []
    with torch.inference_mode():
        assert torch.equal(logits, module(pixels))
        for i, block in enumerate(blocks):
            ran.clear()
            hooks = [
                part.register_forward_hook(lambda part, *_: ran.append(part))
                for name in blocks[: i + 1]
                for part in module.get_submodule(name).children()
            ]
            with resumed(module, {name: outputs[name] for name in blocks[: i + 1]}):
                # Nothing of another image is left where a block answers for all before it.
                assert torch.equal(module(other), logits), block
            assert not ran
            for hook in hooks:
                hook.remove()
        assert torch.equal(module(pixels), logits)


def test_a_block_that_works_in_place_on_its_input_leaves_what_was_recorded():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return (self.second(self.first(x.mul_(2))), "more")

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([InPlace(), InPlace(), InPlace()])

        def forward(self, x):
            for block in self.blocks:
                x, more = block(x)
                assert more == "more"
            return x

    module = Chain().eval()
    outputs, logits = record_blocks(module, ["blocks.0", "blocks.1"], torch.rand(3, 4))
    for _ in range(2):
        with torch.inference_mode(), resumed(module, outputs):
            assert torch.equal(module(torch.rand(3, 4)), logits)
    changed = with_tensor(outputs["blocks.1"], torch.zeros(12))
    with torch.inference_mode(), resumed(module, outputs | {"blocks.1": changed}):
        assert torch.equal(module(torch.rand(3, 4)), module.blocks[2](torch.zeros(3, 4))[0])


def test_a_block_that_runs_twice_is_not_answered_for():
    module = residual_net()
    module[1] = nn.Sequential(module[1][0], module[1][0], module[1][1])
    assert resumable_blocks(trace(module, image())) == ("1.2",)


def test_a_forward_of_its_own_is_put_back():
    module = tiny("vit")
    kept = module.blocks[0].forward = nn.Identity().forward
    outputs, _ = record_blocks(module, ["blocks.0", "blocks.1"], image())
    with resumed(module, outputs):
        assert module.blocks[0].forward is not kept
    assert module.blocks[0].forward is kept
    assert "forward" not in vars(module.blocks[1])
