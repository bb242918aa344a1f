import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from zoo.capture import Tap, observe, trace
from zoo.capture.ablate import Branch, ablated, find_branches
from zoo.models.build import NoSkipBlock, build

SIDE = 16


class Plain(nn.Module):
    """A block with weights and no residual sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu())


class Residual(nn.Module):
    """A residual block whose activation is a function and whose sum is made in place."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.project = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def branch(self, x):
        return self.norm(self.second(self.first(x).relu()))

    def skip(self, x):
        return x if self.project is None else self.project(x)

    def forward(self, x):
        f = self.norm(self.second(self.act(self.first(x))))
        f += self.skip(x)
        return functional.relu(f, inplace=True)


def conv_net(*blocks):
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 4, 3, padding=1)
    return nn.Sequential(stem, nn.Sequential(*(block() for block in blocks))).eval()


def residual_net():
    return conv_net(lambda: Residual(4, 4), lambda: Residual(4, 8))


def tiny(arch, **kwargs):
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2} if "vit" in arch else kwargs
    return build(arch, classes=10, image_size=SIDE, **(sizes | kwargs)).eval()


def image(n=1):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def branches_of(module):
    return find_branches(module, trace(module, image()), image())


def seen(module, *taps, n=2):
    values = {}
    with (
        torch.inference_mode(),
        observe(module, taps, lambda tap, v: values.setdefault(tap, v.clone())),
    ):
        module(image(n))
    return [values[tap] for tap in taps]


def test_a_vits_sums_are_found_after_layer_scale():
    module = tiny("vit", init_values=0.3)
    found = branches_of(module)
    assert found[:2] == (
        Branch(
            "blocks.0", "attention", Tap("blocks.0", "input"), Tap("blocks.0.drop_path1", "output")
        ),
        Branch(
            "blocks.0", "mlp", Tap("blocks.0.norm2", "input"), Tap("blocks.0.drop_path2", "output")
        ),
    )
    assert [b.kind for b in found] == ["attention", "mlp"] * 2
    added, scaled = seen(module, found[0].output, Tap("blocks.0.attn"))
    torch.testing.assert_close(added, 0.3 * scaled)


def test_a_sum_is_found_though_it_is_made_in_place_and_its_skip_is_projected():
    module = residual_net()
    same, projected = branches_of(module)
    assert same == Branch("1.0", "residual", Tap("1.0", "input"), Tap("1.0.norm"))
    assert projected == Branch("1.1", "residual", Tap("1.1.project"), Tap("1.1.norm"))
    for branch in (same, projected):
        z, f, output = seen(module, branch.skip, branch.output, Tap(branch.block))
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


def test_a_block_that_adds_nothing_has_no_branch():
    assert branches_of(conv_net(Plain, Plain)) == ()
    module = tiny("vit")
    for i, block in enumerate(module.blocks):
        module.blocks[i] = NoSkipBlock(block)
    assert branches_of(module) == ()


def test_without_its_branches_a_vits_block_hands_on_its_input():
    module = tiny("vit")
    found = branches_of(module)
    with ablated(module, [b for b in found if b.block == "blocks.1"], "branch"):
        before, after = seen(module, Tap("blocks.1", "input"), Tap("blocks.1"))
    assert torch.equal(before, after)


def test_without_its_skips_a_vits_block_is_the_block_built_without_them():
    module = tiny("vit")
    found = branches_of(module)
    with ablated(module, [b for b in found if b.block == "blocks.1"], "skip"):
        before, after = seen(module, Tap("blocks.1", "input"), Tap("blocks.1"))
    with torch.inference_mode():
        torch.testing.assert_close(after, NoSkipBlock(module.blocks[1])(before))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("part", ["branch", "skip"])
def test_a_cnns_block_without_a_part_is_the_activation_of_the_other(index, part):
    module = residual_net()
    block = module[1][index]
    with ablated(module, [branches_of(module)[index]], part):
        before, after = seen(module, Tap(f"1.{index}", "input"), Tap(f"1.{index}"))
    with torch.inference_mode():
        left = block.skip(before) if part == "branch" else block.branch(before)
    torch.testing.assert_close(after, left.relu())


def test_only_the_chosen_call_of_a_shared_part_is_zeroed():
    module = tiny("mixer", embed_dim=16, num_blocks=2)
    second = branches_of(module)[1]
    with ablated(module, [second], "branch"):
        x, y = seen(module, Tap("blocks.0", "input"), Tap("blocks.0"))
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
