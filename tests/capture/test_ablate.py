import pytest
import torch
from torch import nn

from tests.capture.networks import SIDE, branches_of, image, residual_net, seen, tiny
from zoo.capture import HookPoint
from zoo.capture.ablate import ablated
from zoo.models.build import NoSkipBlock


def test_without_its_branches_a_vits_block_hands_on_its_input():
    module = tiny("vit")
    found = branches_of(module)
    with ablated(module, [b for b in found if b.block == "blocks.1"], "branch"):
        before, after = seen(module, HookPoint("blocks.1", "input"), HookPoint("blocks.1"))
    assert torch.equal(before, after)


def test_without_its_skips_a_vits_block_is_the_block_built_without_them():
    module = tiny("vit")
    found = branches_of(module)
    with ablated(module, [b for b in found if b.block == "blocks.1"], "skip"):
        before, after = seen(module, HookPoint("blocks.1", "input"), HookPoint("blocks.1"))
    with torch.inference_mode():
        torch.testing.assert_close(after, NoSkipBlock(module.blocks[1])(before))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("part", ["branch", "skip"])
def test_a_cnns_block_without_a_part_is_the_activation_of_the_other(index, part):
    module = residual_net()
    block = module[1][index]
    with ablated(module, [branches_of(module)[index]], part):
        before, after = seen(module, HookPoint(f"1.{index}", "input"), HookPoint(f"1.{index}"))
    with torch.inference_mode():
        left = block.skip(before) if part == "branch" else block.branch(before)
    torch.testing.assert_close(after, left.relu())


def test_only_the_chosen_call_of_a_shared_part_is_zeroed():
    module = tiny("mixer", embed_dim=16, num_blocks=2)
    second = branches_of(module)[1]
    with ablated(module, [second], "branch"):
        x, y = seen(module, HookPoint("blocks.0", "input"), HookPoint("blocks.0"))
    block = module.blocks[0]
    with torch.inference_mode():
        mixed = block.mlp_tokens(block.norm1(x).transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(y, x + mixed)


@pytest.mark.parametrize("part", ["branch", "skip"])
def test_the_network_is_itself_again_afterwards_even_after_an_error(part):
    module = residual_net()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.inference_mode():
        expected = module(image(2))
        found = branches_of(module)
        with ablated(module, found, part):
            assert not torch.equal(module(image(2)), expected)
        with pytest.raises(RuntimeError), ablated(module, found, part):
            module(torch.zeros(1, 5, SIDE, SIDE))
        assert torch.equal(module(image(2)), expected)
    assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_several_passes_in_one_context_give_the_same():
    module = residual_net()
    with torch.inference_mode(), ablated(module, branches_of(module), "skip"):
        assert torch.equal(module(image(2)), module(image(2)))


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="'branch', 'skip'"), ablated(nn.Identity(), [], "half"):
        pass
