"""Which parts attend, by what they compute: under any name, in any shape, or not at all."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from tests.analyses.test_engine import study_of
from zoo.capture import HookPoint, observe, trace
from zoo.capture.attending import CHANGED_AFTER, HEADS_APART, NO_SOFTMAX, NOT_TOKENS, SEVERAL
from zoo.capture.branches import find_branches
from zoo.models.files import describe_module
from zoo.study.accumulator import NotApplicable
from zoo.study.attention_layers import attending_models
from zoo.study.networks import Grid

SIDE, WIDTH, HEADS = 16, 32, 2
IMAGES = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Mixing(nn.Module):
    """Attention under a name that does not say so; it keeps the weights that it used."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.between = nn.Linear(HEADS, HEADS)

    def split(self, x):
        return self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)

    def weights(self, q, k):
        return (q @ k.mT).softmax(-1)

    def forward(self, x):
        q, k, v = self.split(x)
        self.used = self.weights(q, k)
        return self.proj((self.used @ v).transpose(1, 2).flatten(2))


class Folded(Mixing):
    """Puts heads and images on one axis, as `torch.bmm` needs them."""

    def forward(self, x):
        q, k, v = (t.flatten(0, 1) for t in self.split(x))
        weights = torch.softmax(torch.bmm(q, k.mT), -1)
        self.used = weights.unflatten(0, (-1, HEADS))
        out = torch.bmm(weights, v).unflatten(0, (-1, HEADS))
        return self.proj(out.transpose(1, 2).flatten(2))


class HeadsFirst(Mixing):
    """Puts all images of a head before those of the next."""

    def forward(self, x):
        q, k, v = (t.transpose(0, 1).flatten(0, 1) for t in self.split(x))
        out = torch.bmm(torch.softmax(torch.bmm(q, k.mT), -1), v).unflatten(0, (HEADS, -1))
        return self.proj(out.permute(1, 2, 0, 3).flatten(2))


class OneHead(Mixing):
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = functional.softmax(q @ k.mT, dim=-1)
        self.used = weights.unsqueeze(1)
        return self.proj(weights @ v)


class ByModule(Mixing):
    """Lets a module without weights of its own take the softmax."""

    def __init__(self):
        super().__init__()
        self.normalise = nn.Softmax(dim=-1)

    def weights(self, q, k):
        return self.normalise(q @ k.mT)


class Normed(Mixing):
    """Normalises over all tokens at once, so that each of them changes all logits (SHViT)."""

    def forward(self, x):
        return super().forward(functional.layer_norm(x, x.shape[1:]))


class Talking(Mixing):
    """Mixes the weights of its heads after the softmax (CaiT)."""

    def weights(self, q, k):
        return self.between((q @ k.mT).softmax(-1).movedim(1, -1)).movedim(-1, 1)


class Difference(Mixing):
    def weights(self, q, k):
        return (q @ k.mT).softmax(-1) - (k @ q.mT).softmax(-1)


class ChannelAttention(Mixing):
    """As many channels a head as there are tokens: shapes alone do not tell them apart."""

    def forward(self, x):
        q, k, v = (t.mT for t in self.split(x))
        out = (functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT).softmax(-1) @ v
        return self.proj(out.permute(0, 3, 1, 2).flatten(2))


class LinearAttention(Mixing):
    def forward(self, x):
        q, k, v = self.split(x)
        out = q.relu() @ (k.relu().mT @ v)
        return self.proj(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, mixing):
        super().__init__()
        self.norm1, self.mixing, self.norm2 = nn.LayerNorm(WIDTH), mixing(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.mixing(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Sixteen tokens; with `rounds`, its blocks are called more than once."""

    def __init__(self, mixing, rounds=1):
        torch.manual_seed(0)
        super().__init__()
        self.stem, self.rounds = nn.Conv2d(3, WIDTH, 4, 4), rounds
        self.blocks = nn.ModuleList(Block(mixing) for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.stem(x).flatten(2).mT
        for block in [*self.blocks] * self.rounds:
            x = block(x)
        return self.head(x.mean(1))


def study(module, side=SIDE):
    model = describe_module(module.eval(), name="m", image_size=side)
    images = torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8).numpy()
    return study_of([model], images)


@pytest.mark.parametrize("mixing", [Mixing, Folded, OneHead, ByModule, Normed])
def test_the_weights_are_those_that_the_network_used_whatever_its_parts_are_called(mixing):
    module = Transformer(mixing)
    network = study(module).networks[0]
    assert (network.family, network.grid) == ("vit", Grid(0, 4, 4, 4.0))
    assert network.trace.attention == ("blocks.0.mixing", "blocks.1.mixing")
    seen = {}
    hook_points = [HookPoint(name, "attention") for name in network.trace.attention]
    with torch.no_grad(), observe(module, hook_points, lambda at, w: seen.update({at.layer: w})):
        module(IMAGES)
    for name, weights in seen.items():
        assert torch.equal(weights, module.get_submodule(name).used)
    kinds = [branch.kind for branch in find_branches(module, network.trace, IMAGES[:1])]
    assert kinds == ["attention", "mlp"] * 2


@pytest.mark.parametrize(
    ("mixing", "why", "family"),
    [
        (Talking, CHANGED_AFTER, "vit"),
        (Difference, SEVERAL, "vit"),
        (LinearAttention, NO_SOFTMAX, "windowed"),
        (ChannelAttention, NOT_TOKENS, "windowed"),
        (HeadsFirst, HEADS_APART, "vit"),
    ],
)
def test_other_attention_reports_no_weights_rather_than_wrong_ones(mixing, why, family):
    found = study(Transformer(mixing))
    network = found.networks[0]
    assert network.trace.attention == ()
    assert network.family == family
    assert network.grid == Grid(0, 4, 4, 4.0)
    with pytest.raises(NotApplicable, match=f"of its 2 attention layers cannot be read: .* {why}"):
        attending_models(found, "no maps")


def test_each_call_of_a_shared_block_attends():
    network = study(Transformer(Mixing, rounds=2)).networks[0]
    calls = ["blocks.0.mixing", "blocks.1.mixing"]
    assert network.trace.attention == (*calls, *(f"{call}#2" for call in calls))


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_attention_that_tells_nothing_apart_is_attention(value):
    module = timm.create_model("vit_tiny_patch16_224", **SIZES, **SMALL).eval()
    for block in module.blocks:
        block.attn.qkv.weight.data.fill_(value)
    assert len(study(module, 64).networks[0].trace.attention) == 2


SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2}
SIZES = {"img_size": 64, "num_classes": 3}
WINDOWS = {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2, "window_size": 2}


@pytest.mark.parametrize(
    ("name", "sizes", "shapes"),
    [
        (
            "samvit_base_patch16",
            WINDOWS | {"global_attn_indexes": (1, 3)},
            [(16, 2, 4, 4), (1, 2, 64, 64)] * 2,
        ),
        (
            "nest_tiny",
            {},
            [(16, 3, 16, 16)] * 2 + [(4, 6, 16, 16)] * 2 + [(1, 12, 16, 16)] * 8,
        ),
    ],
)
def test_windows_are_read_where_heads_do_not_stand_before_queries(name, sizes, shapes):
    torch.manual_seed(0)
    module = timm.create_model(name, **SIZES, **sizes).eval()
    image, seen = torch.randn(2, 3, 64, 64), []
    layers = trace(module, image)
    assert [layers[layer].attention for layer in layers.attention] == shapes
    for fused in (True, False):
        for part in module.modules():
            if hasattr(part, "fused_attn"):
                part.fused_attn = fused
        hook_points = [HookPoint(layer, "attention") for layer in layers.attention]
        with torch.no_grad(), observe(module, hook_points, lambda _, weights: seen.append(weights)):
            module(image)
    for one, other, shape in zip(seen, seen[len(shapes) :], shapes, strict=False):
        assert tuple(one.shape) == (2 * shape[0], *shape[1:])
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_class_token_that_joins_on_the_way_lies_before_the_grid():
    sizes = {"patch_size": 16, "embed_dim": 4, "depth": 4, "local_up_to_layer": 2}
    network = study(timm.create_model("convit_tiny", **SIZES, **sizes), 64).networks[0]
    assert (network.family, network.grid) == ("vit", Grid(1, 4, 4, 16.0))
