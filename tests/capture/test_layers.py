import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo.capture import HookPoint, observe, select_layers, trace
from zoo.capture.layers import find_blocks
from zoo.errors import UserError
from zoo.models.build import build

IMAGE = torch.randn(1, 3, 32, 32)


class OutOfOrder(nn.Module):
    """Registers its layers in another order than it runs them in."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.first = nn.Linear(3 * 32 * 32, 4)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.last(self.act(self.act(self.first(x.flatten(1)))))


def test_layers_are_named_in_the_order_of_their_outputs():
    found = trace(OutOfOrder(), IMAGE)
    assert [layer.name for layer in found] == ["first", "act", "act#2", "last"]
    assert found.without_output == ("unused",)


def test_each_call_of_a_module_that_runs_twice_has_its_own_value():
    model = OutOfOrder()
    seen = {}
    hook_points = [HookPoint("act"), HookPoint("act#2"), HookPoint("last", "input")]
    with observe(model, hook_points, seen.setdefault):
        model(IMAGE)
        model(IMAGE)
    assert set(seen) == set(hook_points)


def test_a_value_is_seen_before_an_in_place_successor_changes_it():
    # The defect of three published tools: a BatchNorm's hook returns post-ReLU values.
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).eval()
    seen = {}
    with (
        torch.no_grad(),
        observe(
            model,
            [HookPoint("1"), HookPoint("2", "input")],
            lambda t, v: seen.update({t: v.min().item()}),
        ),
    ):
        model(IMAGE)
    assert seen[HookPoint("1")] < 0
    assert seen[HookPoint("2", "input")] < 0


def test_hooks_are_gone_afterwards_even_after_an_error():
    model = OutOfOrder()
    with pytest.raises(RuntimeError), observe(model, [HookPoint("first")], lambda *_: None):
        model(torch.zeros(1, 3, 2, 2))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    trace(model, IMAGE)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "stem", "blocks", "head"),
    [
        (lambda: build("resnet18", classes=2, image_size=32), "maxpool", 8, "fc"),
        (
            lambda: build("vit", classes=2, image_size=32, embed_dim=16, depth=3, num_heads=2),
            "norm_pre",
            3,
            "head",
        ),
        (
            lambda: build("mixer", classes=2, image_size=32, embed_dim=16, num_blocks=2),
            "stem",
            2,
            "head",
        ),
        (lambda: timm.create_model("convnext_atto"), "stages.0.downsample", 12, "head"),
        (torchvision.models.resnet18, "maxpool", 8, "fc"),
    ],
)
def test_the_default_taps_are_stem_blocks_and_head(model, stem, blocks, head):
    found = trace(model().eval(), IMAGE)
    assert found.of_role("stem") == (stem,)
    assert len(found.of_role("block")) == blocks
    assert found.of_role("head") == (head,)
    chosen = select_layers(found, "blocks")
    assert chosen == (stem, *found.of_role("block"), head)


def test_blocks_are_found_in_stages_that_are_no_container_and_a_stem_of_layers_is_none():
    regnet = timm.create_model("regnetx_002")
    assert find_blocks(regnet)[:3] == ("s1.b1", "s2.b1", "s3.b1")
    assert len(find_blocks(regnet)) == 13
    # Its convolutions have a gain of their own beside their weights: each is one layer.
    assert find_blocks(timm.create_model("nfnet_f0"))[0] == "stages.0.0"
    # Two MLPs in a row are parts of a block, whose other parts are of another class.
    mixer = build("mixer", classes=2, image_size=32, embed_dim=16, num_blocks=2)
    assert find_blocks(mixer) == ("blocks.0", "blocks.1")


def test_a_wrapper_around_a_single_part_is_no_container():
    # Their blocks add what is wrapped; regnet's stages hold one block or many.
    shvit = timm.create_model("shvit_s1")
    assert find_blocks(shvit)[:2] == ("stages.0.blocks.0", "stages.0.blocks.1")


class Windows(nn.Module):
    """Works on four windows of an image at a time, with a table that is the same for all."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Unfold(16, stride=16)
        self.table, self.inner, self.pool = nn.Linear(2, 8), nn.Linear(768, 8), nn.Linear(32, 2)

    def forward(self, x):
        windows = self.cut(x).transpose(1, 2).reshape(-1, 1, 768)
        return self.pool((self.inner(windows) + self.table(torch.ones(6, 1, 2))[:1]).view(-1, 32))


def test_windows_are_put_together_and_a_table_is_no_layer():
    model, images = Windows(), torch.randn(6, 3, 32, 32)
    found = trace(model, images)
    assert [(layer.name, layer.shape) for layer in found] == [
        ("cut", (768, 4)),
        ("inner", (4, 8)),
        ("pool", (2,)),
    ]
    assert found.without_output == ("table",)
    seen = {}
    with (
        torch.no_grad(),
        observe(model, [HookPoint("inner")], lambda hook_point, v: seen.update({hook_point: v})),
    ):
        model(images)
        windows = model.cut(images).transpose(1, 2)
        # Another number of rows at once may be rounded otherwise.
        torch.testing.assert_close(seen[HookPoint("inner")], model.inner(windows))


def test_a_network_without_blocks_is_shown_by_all_its_layers():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2))
    assert find_blocks(model) == ()
    assert select_layers(trace(model, IMAGE), "blocks") == ("0", "1", "2", "3")


def test_a_block_without_skips_is_a_block_of_its_row():
    model = build("vit-noskip1", classes=2, image_size=32, embed_dim=16, depth=2, num_heads=2)
    assert find_blocks(model) == ("blocks.0", "blocks.1")


def test_the_only_block_of_a_transformer_is_a_block():
    model = build("vit", classes=2, image_size=32, embed_dim=16, depth=1, num_heads=2)
    assert find_blocks(model) == ("blocks.0",)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert find_blocks(nn.TransformerEncoder(layer, 1)) == ("layers.0",)
    # Not the attention in a row of convolutions, nor a network that has a classifier beside it.
    attending = nn.MultiheadAttention(8, 2)
    row = nn.ModuleDict({"features": nn.Sequential(nn.Conv2d(3, 8, 3), attending)})
    assert find_blocks(row) == ()
    assert find_blocks(nn.Sequential(layer, nn.Linear(8, 2))) == ()


def test_layers_are_chosen_by_a_regular_expression():
    found = trace(build("resnet18", classes=2, image_size=32), IMAGE)
    assert select_layers(found, r"layer[12]\.0\.conv1$") == ("layer1.0.conv1", "layer2.0.conv1")
    assert len(select_layers(found, "all")) == 93
    with pytest.raises(UserError, match="matches none of 93 layers"):
        select_layers(found, "nothing")
    with pytest.raises(UserError, match=r"did you mean 'layer1\.0\.conv1'\?"):
        select_layers(found, "layer1.0.con1")
    with pytest.raises(UserError, match="a regular expression, got '\\('"):
        select_layers(found, "(")


def test_modes_are_restored_module_by_module():
    model = build("resnet18", classes=2, image_size=32).train()
    model.bn1.eval()
    trace(model, IMAGE)
    assert model.training
    assert not model.bn1.training
    assert model.layer1[0].bn1.training


def test_an_input_that_is_refused_without_a_word_is_told_with_the_kind_of_error():
    class Halo(nn.Module):
        def forward(self, x):
            raise AssertionError

    with pytest.raises(UserError, match=r"an input of \(1, 3, 32, 32\) \(AssertionError\)$"):
        trace(Halo(), IMAGE)


def test_an_input_that_does_not_fit_is_named():
    model = build("vit", classes=2, image_size=16, embed_dim=16, depth=1, num_heads=2)
    with pytest.raises(UserError, match=r"cannot run on an input of \(1, 3, 32, 32\)"):
        trace(model, IMAGE)
    with (
        pytest.raises(UserError, match="no layer 'nothing'"),
        observe(model, [HookPoint("nothing")], print),
    ):
        pass
    with pytest.raises(ValueError, match="expected a hook point of kind"):
        HookPoint("head", "gradient")
