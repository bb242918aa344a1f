"""What kind of network a model is, and where its tokens lie: told from what it computes."""

import pytest
import timm
import torch
from torch import nn

from tests.analyses.test_engine import study_of
from zoo.capture import trace
from zoo.models.files import describe_module
from zoo.study.networks import Grid, family_of


@pytest.mark.parametrize(
    ("arch", "family", "prefix"),
    [("vit", "vit", 1), ("vit-gap", "vit", 0), ("resnet18", "cnn", None), ("mixer", "mlp", 0)],
)
def test_a_models_family_and_grid_come_from_what_it_computes(
    make_model, digit_images, arch, family, prefix
):
    subject = study_of([make_model(arch, "m")], digit_images[0]).networks[0]
    assert subject.family == family
    if prefix is None:
        assert subject.grid is None
    else:
        assert (subject.grid.num_prefix_tokens, subject.grid.width, subject.grid.patch) == (
            prefix,
            4,
            4.0,
        )


@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0", "maxvit_pico_rw_256"]
)
def test_attention_in_windows_or_over_fewer_keys_is_no_plain_vit(name):
    size = 256 if "256" in name else 224
    found = trace(timm.create_model(name).eval(), torch.zeros(1, 3, size, size))
    assert family_of(found) == "windowed"


class Encoder(nn.Module):
    """A transformer over `stem`'s tokens; with `tokens_first`, images come second."""

    def __init__(self, stem, width, prefix=0, tokens_first=False):
        super().__init__()
        self.stem, self.tokens_first = stem, tokens_first
        self.before = nn.Parameter(torch.zeros(1, prefix, width))
        known = {"dim_feedforward": 8, "batch_first": not tokens_first}
        layers = [nn.TransformerEncoderLayer(width, 2, **known) for _ in range(2)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(width, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        x = torch.cat([self.before.expand(len(x), -1, -1), x], dim=1)
        if self.tokens_first:
            return self.head(self.layers(x.transpose(0, 1))[0])
        return self.head(self.layers(x)[:, 0])


class Cut(nn.Module):
    """Cuts an image into patches without a convolution."""

    def __init__(self, height, width):
        super().__init__()
        self.sides = height, width

    def forward(self, x):
        height, width = self.sides
        x = x.unfold(2, height, height).unfold(3, width, width)
        return x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


@pytest.mark.parametrize(
    ("stem", "width", "prefix", "grid"),
    [
        (nn.Conv2d(3, 4, 4, 4), 4, 0, Grid(0, 4, 4, 4.0)),
        (nn.Conv2d(3, 4, 4, 4), 4, 1, Grid(1, 4, 4, 4.0)),
        # As many tokens as a square has, though not all of them are patches.
        (nn.Conv2d(3, 4, 4, 4), 4, 9, Grid(9, 4, 4, 4.0)),
        (nn.Conv2d(3, 4, (2, 4), (2, 4)), 4, 0, Grid(0, 8, 4, 4.0)),
        (Cut(4, 4), 48, 1, Grid(1, 4, 4, 4.0)),
        (Cut(2, 4), 24, 0, None),
        (Cut(4, 4), 48, 13, None),
    ],
)
def test_where_tokens_lie_is_told_or_not_known(digit_images, stem, width, prefix, grid):
    model = describe_module(Encoder(stem, width, prefix), name="m", image_size=16)
    assert study_of([model], digit_images[0]).networks[0].grid == grid


def test_attention_that_pools_after_the_blocks_leaves_a_cnn_a_cnn():
    module = timm.create_model("resnet50_clip", num_classes=3).eval()
    found = trace(module, torch.zeros(1, 3, 224, 224))
    assert found.attention == ("head",)
    assert family_of(found) == "cnn"


def test_blocks_with_tokens_on_the_first_axis_are_named_and_make_no_cnn(digit_images, caplog):
    module = Encoder(nn.Conv2d(3, 4, 4, 4), 4, tokens_first=True)
    model = describe_module(module, name="m", image_size=16)
    subject = study_of([model], digit_images[0]).networks[0]
    assert subject.trace.not_batch_first == ("layers.0", "layers.1")
    assert (subject.family, subject.grid) == ("other", None)
    said = "m: 2 blocks are left out: their outputs do not have the images on the first axis"
    assert caplog.messages == [said]


def test_blocks_that_never_run_are_not_left_out_aloud(digit_images, caplog):
    module = Encoder(nn.Conv2d(3, 4, 4, 4), 4)
    module.spare = nn.Sequential(nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2))
    model = describe_module(module, name="m", image_size=16)
    assert study_of([model], digit_images[0]).networks[0].family == "vit"
    assert caplog.messages == []


def test_the_only_block_that_attends_among_others_makes_no_cnn():
    module = timm.create_model("efficientformer_l1", num_classes=3).eval()
    found = trace(module, torch.zeros(1, 3, 224, 224))
    assert found.of_role("block")[-1] == "stages.3.blocks.4"
    assert found.attention == ("stages.3.blocks.4.token_mixer",)
    assert family_of(found) == "windowed"


def test_maps_that_recurrent_layers_go_over_make_no_cnn():
    sizes = {"layers": (1, 1, 1, 1), "embed_dims": (8,) * 4, "hidden_sizes": (4,) * 4}
    module = timm.create_model("sequencer2d_s", num_classes=3, **sizes).eval()
    found = trace(module, torch.zeros(1, 3, 56, 56))
    assert [found[name].shape[-1] for name in found.of_role("block")] == [8] * 4
    assert family_of(found) == "other"


@pytest.mark.parametrize("name", ["edgenext_xx_small", "visformer_tiny"])
def test_a_hybrid_that_attends_in_some_blocks_is_no_plain_vit(name):
    sizes = {"img_size": 32} if "visformer" in name else {}
    module = timm.create_model(name, **sizes).eval()
    assert family_of(trace(module, torch.zeros(1, 3, 32, 32))) == "windowed"
