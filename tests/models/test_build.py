import copy

import pytest
import torch

from zoo.errors import UserError
from zoo.models.build import build, check_arch, count_parameters
from zoo.models.spec import ModelSpec


@pytest.mark.parametrize(
    ("arch", "classes", "parameters"),
    [
        ("vit", 10, 9_523_722),
        ("vit", 100, 9_569_892),
        ("resnet18", 10, 11_173_962),
        ("resnet18", 100, 11_220_132),
    ],
)
def test_the_papers_models_have_the_papers_parameters(arch, classes, parameters):
    with torch.device("meta"):
        assert count_parameters(build(arch, classes=classes, image_size=32)) == parameters


SMALL = {"patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2}


@pytest.mark.parametrize(
    ("arch", "kwargs"),
    [
        ("vit", SMALL),
        ("vit-gap", SMALL),
        ("vit-noskip1", SMALL),
        ("vit-noskip1-shuffled8", SMALL),
        ("mixer", {"embed_dim": 16, "num_blocks": 2}),
        ("resnet18", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"patch_size": 4, "depth": 2, "embed_dim": 24}),
    ],
)
def test_every_kind_of_architecture_maps_images_to_logits(arch, kwargs):
    model = build(arch, classes=7, image_size=32, **kwargs).eval()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_gap_has_no_class_token_and_large_images_keep_the_papers_stem():
    assert build("vit-gap", classes=2, image_size=16, **SMALL).num_prefix_tokens == 0
    assert build("vit", classes=2, image_size=16, **SMALL).num_prefix_tokens == 1
    with torch.device("meta"):
        assert build("resnet18", classes=2, image_size=32).conv1.kernel_size == (3, 3)
        assert build("resnet18", classes=2, image_size=64).conv1.kernel_size == (7, 7)


def test_without_skips_a_block_is_its_branches_chained():
    model = build("vit-noskip1", classes=2, image_size=16, **SMALL).eval()
    block, x = model.blocks[1], torch.randn(2, 17, 16)
    inner = block.attn(block.norm1(x))
    assert torch.equal(block(x), block.mlp(block.norm2(inner)))
    with_skips = build("vit", classes=2, image_size=16, **SMALL)
    assert model.state_dict().keys() == with_skips.state_dict().keys()


def seeded(arch, **kwargs):
    torch.manual_seed(3)
    return build(arch, classes=5, image_size=16, **kwargs).eval()


@pytest.mark.parametrize(
    ("arch", "kwargs"), [("resnet18", {"channels": [8, 8, 8, 8]}), ("cct", SMALL)]
)
def test_a_shuffled_network_is_the_plain_one_on_images_with_their_tiles_moved(arch, kwargs):
    plain, shuffled = seeded(arch, **kwargs), seeded(f"{arch}-shuffled8", **kwargs)
    order = next(shuffled.children()).tile_order.tolist()
    assert sorted(order) == [0, 1, 2, 3] != order
    images = torch.randn(3, 3, 16, 16)
    tiles = [images[..., y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]
    a, b, c, d = (tiles[i] for i in order)
    moved = torch.cat([torch.cat([a, b], dim=3), torch.cat([c, d], dim=3)], dim=2)
    assert torch.equal(shuffled(images), plain(moved))
    assert not torch.allclose(shuffled(images), plain(images))


def test_a_vit_with_other_positions_is_the_shuffled_one():
    """What a ViT knows of places are its position embeddings, which are independent at first."""
    plain, shuffled = seeded("vit", **SMALL), seeded("vit-shuffled4", **SMALL)
    order = shuffled.patch_embed.tile_order
    positions = torch.empty_like(order)
    positions[order] = torch.arange(16)
    with torch.no_grad():
        plain.pos_embed[:, 1:] = plain.pos_embed[:, 1:][:, positions]
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(shuffled(images), plain(images), rtol=1e-4, atol=1e-5)


def test_the_order_of_tiles_is_drawn_by_seed_and_stays_with_the_network():
    first, again = seeded("vit-shuffled4", **SMALL), seeded("vit-shuffled4", **SMALL)
    order = first.patch_embed.tile_order
    assert torch.equal(order, again.patch_embed.tile_order)
    torch.manual_seed(4)
    other = build("vit-shuffled4", classes=5, image_size=16, **SMALL).eval()
    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(other(images), first(images))
    other.load_state_dict(first.state_dict())
    copied = copy.deepcopy(first)
    assert torch.equal(other(images), first(images))
    assert torch.equal(copied(images), first(images))
    copied.patch_embed.tile_order.copy_(torch.arange(16))
    assert torch.equal(first.patch_embed.tile_order, order)


@pytest.mark.parametrize(
    ("arch", "kwargs", "message"),
    [
        ("vit-shuffled0", SMALL, "expected tiles that divide 16 px, got 0 px"),
        ("vit-shuffled5", SMALL, "expected tiles that divide 16 px, got 5 px"),
        ("vit-shuffled99999", SMALL, "unknown arch 'vit-shuffled99999'"),
        ("vitt", {}, "unknown arch 'vitt'; did you mean 'vit'"),
        ("resnet19", {}, "did you mean 'resnet18'"),
        ("vit-noskip9", SMALL, "expected a block from 0 to 2, got 9"),
        ("resnet18-noskip0", {}, "only a plain ViT's blocks"),
        ("vit", {"patch_size": 4, "colour": 1}, "cannot build vit at 16 px"),
        ("vit", {"patch_size": 4, "num_heads": 7}, "cannot build vit at 16 px"),
        ("vit", {"patch_size": 0}, "cannot build vit at 16 px"),
        ("vit", {"num_heads": 0}, "cannot build vit at 16 px"),
        ("vit", {"embed_dim": "wide"}, "cannot build vit at 16 px"),
        ("vit", {"depth": 10**6}, "vit: kwargs.depth: expected -100000 to 100000, got 1000000"),
        ("vit", {"depth": 90_000, "embed_dim": 8}, "vit: expected a network of at most 20,000"),
        (
            "vit",
            {"embed_dim": 100_000, "num_heads": 1},
            "weights of at most .* GB|cannot build vit",
        ),
        ("resnet18", {"num_classes": 3, "in_chans": 1}, "resnet18: kwargs hold in_chans, num_cl"),
        ("resnet50", {"checkpoint_path": "x.pt"}, "resnet50: kwargs hold checkpoint_path"),
    ],
)
def test_what_cannot_be_built_is_named(arch, kwargs, message):
    with pytest.raises(UserError, match=message):
        build(arch, classes=10, image_size=16, **kwargs)


@pytest.mark.parametrize("key", ["arch", "classes", "image_size", "pretrained"])
def test_arguments_that_zoo_gives_are_refused_in_a_spec(key):
    with pytest.raises(UserError, match=f"vit: kwargs hold {key}"):
        ModelSpec("v", "vit", 16, ["a", "b"], [0.0] * 3, [1.0] * 3, kwargs={key: 1})


def test_an_architecture_is_checked_without_building_it():
    check_arch("vit-noskip3")
    check_arch("resnet18-shuffled4")
    check_arch("resnet50")
    with pytest.raises(UserError, match="unknown arch"):
        check_arch("transformer")
