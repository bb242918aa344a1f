import pytest
import timm
import torch

from tests.capture.networks import SIDE, Plain, branches_of, conv_net, residual_net, seen, tiny
from zoo.capture import HookPoint, trace
from zoo.capture.branches import Branch, find_branches
from zoo.models.build import NoSkipBlock


def test_a_vits_sums_are_found_after_layer_scale():
    module = tiny("vit", init_values=0.3)
    found = branches_of(module)
    assert found[:2] == (
        Branch(
            "blocks.0",
            "attention",
            HookPoint("blocks.0", "input"),
            HookPoint("blocks.0.drop_path1", "output"),
        ),
        Branch(
            "blocks.0",
            "mlp",
            HookPoint("blocks.0.norm2", "input"),
            HookPoint("blocks.0.drop_path2", "output"),
        ),
    )
    assert [b.kind for b in found] == ["attention", "mlp"] * 2
    added, scaled = seen(module, found[0].output, HookPoint("blocks.0.attn"))
    torch.testing.assert_close(added, 0.3 * scaled)


def test_a_sum_is_found_though_it_is_made_in_place_and_its_skip_is_projected():
    module = residual_net()
    same, projected = branches_of(module)
    assert same == Branch("1.0", "residual", HookPoint("1.0", "input"), HookPoint("1.0.norm"))
    assert projected == Branch("1.1", "residual", HookPoint("1.1.project"), HookPoint("1.1.norm"))
    for branch in (same, projected):
        z, f, output = seen(module, branch.skip, branch.output, HookPoint(branch.block))
        torch.testing.assert_close((z + f).relu(), output)


def test_both_sums_of_a_block_that_shares_a_part_are_told_apart():
    module = tiny("mixer", embed_dim=16, num_blocks=2)
    found = branches_of(module)
    assert [b.kind for b in found] == ["mlp_tokens", "mlp_channels"] * 2
    assert [b.output.layer for b in found[:2]] == ["blocks.0.drop_path", "blocks.0.drop_path#2"]


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("resnet18", {}, ["residual"] * 8),
        ("resnetv2_50", {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 16)}, ["residual"] * 4),
        ("convnext_atto", {"dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1)}, ["residual"] * 4),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 32, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2)},
            ["attention", "mlp"] * 2,
        ),
    ],
)
def test_every_block_of_common_networks_gives_its_sums(name, kwargs, expected):
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=2, **kwargs)
    x = torch.randn(1, 3, 32, 32)
    assert [b.kind for b in find_branches(module, trace(module, x), x)] == expected


def test_a_branch_of_zeros_is_found_once_and_zeros_add_up_to_no_other():
    module = tiny("vit")
    for part in (module.blocks[0].attn.proj, module.blocks[0].mlp.fc2):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    assert [(b.kind, b.skip) for b in branches_of(module)[:2]] == [
        ("attention", HookPoint("blocks.0", "input")),
        ("mlp", HookPoint("blocks.0.norm2", "input")),
    ]
    assert len(branches_of(module)) == 4


def test_a_block_that_adds_nothing_has_no_branch():
    assert branches_of(conv_net(Plain, Plain)) == ()
    module = tiny("vit")
    for i, block in enumerate(module.blocks):
        module.blocks[i] = NoSkipBlock(block)
    assert branches_of(module) == ()


def test_the_example_stays_as_it_is_where_a_network_works_in_place_on_it():
    net = residual_net()
    net.register_forward_pre_hook(lambda part, args: args[0].sub_(0.5))
    example = torch.randn(1, 3, SIDE, SIDE)
    layers, before = trace(net, example.clone()), example.clone()
    assert find_branches(net, layers, example)
    assert torch.equal(example, before)
