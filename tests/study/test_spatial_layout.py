"""Where outputs lie over the image, for every kind of layout."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.analyses.test_engine import study_of
from zoo.capture.layers import Layer, Trace
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.study.networks import ComparedNetwork, Grid
from zoo.study.spatial_layout import (
    Layout,
    choose_images,
    compared_layers,
    evenly,
    last_block,
    last_mapped_block,
    layout_of,
    mean_over_places,
    name_copies,
    name_sorted,
    places_of,
    pool_activation,
)


def subject(*layers, family="cnn", grid=None, selected=()):
    model = describe_module(nn.Conv2d(3, 4, 1), name="m", image_size=8)
    trace = Trace(tuple(Layer(*layer) for layer in layers), ())
    return ComparedNetwork(
        "m", model, trace, selected or tuple(n for n, *_ in layers), family, grid
    )


@pytest.mark.parametrize(
    ("shape", "family", "grid", "expected"),
    [
        ((64, 8, 8), "cnn", None, Layout("channels_first", 8, 8)),
        ((8, 8, 8), "cnn", None, Layout("channels_first", 8, 8)),
        ((8, 8, 8), "windowed", None, None),
        ((7, 7, 96), "windowed", None, Layout("channels_last", 7, 7)),
        ((4, 4, 96), "vit", None, Layout("channels_last", 4, 4)),
        ((17, 32), "vit", Grid(1, 4, 4, 4.0), Layout("tokens", 4, 4, 1)),
        ((32, 16), "mlp", Grid(0, 4, 4, 4.0), None),  # a mixer's transposed inner layer
        ((2, 17, 16), "vit", Grid(1, 4, 4, 4.0), None),  # a head's queries
        ((17, 32), "other", None, None),
        ((10,), "cnn", None, None),
    ],
)
def test_the_layout_follows_from_the_shape(shape, family, grid, expected):
    assert layout_of(subject(("x", "block", shape), family=family, grid=grid), "x") == expected


@pytest.mark.parametrize("arch", ["resnet18-shuffled4", "vit-shuffled4", "vit-shuffled4-noskip0"])
def test_no_layer_lies_over_an_image_whose_tiles_are_shuffled(arch):
    sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 4}
    kwargs = sizes if arch.startswith("vit") else {"channels": [8, 8, 8, 8]}
    module = build(arch, classes=2, image_size=16, **kwargs).eval()
    made = {"name": "m", "image_size": 16, "class_names": ["a", "b"], "kwargs": kwargs}
    model = describe_module(module, arch=arch, **made)
    (network,) = study_of([model], np.zeros((4, 16, 16, 3), np.uint8)).networks
    assert network.trace.of_role("block")
    assert [layer.name for layer in network.trace if layout_of(network, layer.name)] == []


def test_three_equal_sides_are_read_as_the_models_other_blocks_are():
    layers = [("stem", "stem", (8, 8, 8)), ("a", "block", (16, 4, 4)), ("b", "block", (4, 4, 4))]
    hybrid = subject(*layers, family="windowed")
    assert layout_of(hybrid, "stem") == Layout("channels_first", 8, 8)
    assert layout_of(hybrid, "b") == Layout("channels_first", 4, 4)
    last = subject(layers[0], ("a", "block", (4, 4, 16)), family="windowed")
    assert layout_of(last, "stem") is None


def test_places_come_row_by_row_in_every_layout():
    first = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    last = first.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.full((2, 1, 3), -1.0), last.reshape(2, 16, 3)], dim=1)
    expected = first[:, :, 1, 2]
    assert torch.equal(places_of(first, Layout("channels_first", 4, 4))[:, 6], expected)
    assert torch.equal(places_of(last, Layout("channels_last", 4, 4))[:, 6], expected)
    assert torch.equal(places_of(tokens, Layout("tokens", 4, 4, 1))[:, 6], expected)


def test_the_mean_over_places_is_the_same_number_in_every_layout():
    first = torch.randn(2, 3, 4, 4)
    last = first.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.full((2, 1, 3), 9.0), last.reshape(2, 16, 3)], dim=1)
    expected = torch.stack([first[:, c].sum(dim=(1, 2)) / 16 for c in range(3)], dim=1)
    cases = [
        (first, subject(("x", "block", (3, 4, 4)))),
        (last, subject(("x", "block", (4, 4, 3)), family="windowed")),
        (tokens, subject(("x", "block", (17, 3)), family="vit", grid=Grid(1, 4, 4, 4.0))),
    ]
    for value, model in cases:
        assert torch.allclose(mean_over_places(value, model, "x"), expected, atol=1e-6)


def test_pooling_chooses_what_of_a_layer_is_compared():
    layers = [("x", "block", (5, 3)), ("patches", "inner", (4, 3))]
    vit = subject(*layers, family="vit", grid=Grid(1, 2, 2, 4.0))
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(pool_activation(tokens, "flatten", vit, "x"), tokens.flatten(1))
    assert torch.equal(pool_activation(tokens, "cls", vit, "x"), tokens[:, 0])
    assert torch.equal(pool_activation(tokens, "gap", vit, "x"), tokens[:, 1:].mean(dim=1))
    assert torch.equal(pool_activation(tokens, "tokens", vit, "x"), tokens[:, 1:].flatten(1))
    # Before the class token is added, the first token is a patch.
    patches = tokens[:, 1:]
    assert torch.equal(pool_activation(patches, "cls", vit, "patches"), patches.flatten(1))
    assert torch.equal(pool_activation(patches, "gap", vit, "patches"), patches.mean(dim=1))


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((4, 6, 6), (2, 3)), ((6, 6, 4), (1, 2)), ((5, 6, 4), (1, 2))],  # the last: windows (NesT)
)
def test_the_mean_over_places_leaves_the_channels_wherever_they_stand(shape, dims):
    model, maps = subject(("x", "block", shape), family="windowed"), torch.randn(2, *shape)
    expected = maps.mean(dim=dims)
    assert expected.shape == (2, 4)
    torch.testing.assert_close(pool_activation(maps, "gap", model, "x"), expected)
    assert torch.equal(pool_activation(maps, "cls", model, "x"), maps.flatten(1))


def test_what_does_not_lie_over_the_image_is_averaged_over_its_second_dimension():
    model, value = subject(("x", "block", (7, 3)), family="other"), torch.randn(2, 7, 3)
    assert torch.equal(pool_activation(value, "gap", model, "x"), value.mean(dim=1))
    flat = subject(("x", "head", (10,)))
    assert pool_activation(torch.randn(2, 10), "gap", flat, "x").shape == (2, 10)


def test_copies_among_images_are_counted():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    assert name_copies(images) == []
    assert name_copies(images[[0, 1, 2, 0, 0, 1]]) == ["3 of 6 images are copies of others"]


def test_the_last_block_is_the_last_that_lies_over_the_image():
    blocks = [("a", "block", (8, 4, 4)), ("b", "block", (8, 2, 2)), ("fc", "head", (10,))]
    assert last_block(subject(*blocks)) == "b"
    plain = [("conv", "inner", (8, 4, 4)), ("pool", "inner", (8, 1, 1)), ("fc", "head", (10,))]
    assert last_block(subject(*plain)) == "conv"
    assert last_block(subject(("fc", "head", (10,)), family="other")) is None


@pytest.mark.parametrize(("sides", "expected"), [((8, 4, 2), "b1"), ((3, 2), "b1"), ((8, 8), "b1")])
def test_maps_are_taken_where_there_are_four_by_four_places(sides, expected):
    blocks = [(f"b{i}", "block", (7, side, side)) for i, side in enumerate(sides)]
    assert last_mapped_block(subject(*blocks))[0] == expected


def test_too_many_layers_are_cut_to_blocks_and_then_spread_evenly():
    layers = []
    for i in range(40):
        layers += [(f"{i}.inner", "inner", (8, 4, 4)), (f"{i}", "block", (8, 4, 4))]
    model = subject(*layers)
    chosen = compared_layers(model, 32)
    assert len(chosen) == 32
    assert (chosen[0], chosen[-1]) == ("0", "39")
    assert not any("inner" in name for name in chosen)
    assert compared_layers(model, 100) == model.layers
    plain = [(str(i), "inner", (8, 4, 4)) for i in range(40)] + [("fc", "head", (10,))]
    assert len(compared_layers(subject(*plain), 32)) == 32
    assert list(evenly(range(10), 10)) == list(range(10))


def test_images_are_drawn_once_each_and_in_order():
    chosen = choose_images(100, 30, seed=0)
    assert len(set(chosen.tolist())) == 30
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.tolist() == choose_images(100, 30, seed=0).tolist()
    assert chosen.tolist() != choose_images(100, 30, seed=1).tolist()
    assert choose_images(5, 30, seed=0).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("classes", [2, 10, 300])
def test_images_sorted_by_class_are_named_and_shuffled_ones_are_not(classes):
    labels = np.random.default_rng(0).integers(0, classes, 360)
    assert name_sorted(labels, 60) == []
    (note,) = name_sorted(np.sort(labels), 60)
    assert note.startswith("the images are sorted by class: a batch holds ")
    assert name_sorted(None, 60) == name_sorted(np.sort(labels)[:40], 20) == []


SWIN = {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4}


@pytest.mark.parametrize(
    ("name", "sizes", "kinds"),
    [
        ("swin_tiny_patch4_window7_224", SWIN, ["channels_last"] * 2),
        ("pvt_v2_b0", {}, ["tokens"] * 8),
        # Tokens in the order in which they will be merged, and blocks of an image one by one.
        ("hiera_tiny_224", {}, [None] * 12),
        ("nest_tiny", {}, [None] * 12),
        (
            "tnt_s_patch16_224",
            {"embed_dim": 16, "inner_dim": 8, "depth": 2, "num_heads_outer": 2},
            [None] * 2,
        ),
        ("mobilevit_xxs", {}, ["channels_first"] * 5 + [None] * 2),
    ],
)
def test_tokens_in_another_order_do_not_lie_over_the_image(name, sizes, kinds):
    torch.manual_seed(0)
    sizes = sizes if name.startswith(("pvt", "mobile")) else {"img_size": 64, **sizes}
    module = timm.create_model(name, num_classes=3, **sizes).eval()
    model = describe_module(module, name="m", image_size=64)
    network = study_of([model], np.zeros((4, 64, 64, 3), np.uint8)).networks[0]
    layouts = [layout_of(network, block) for block in network.trace.of_role("block")]
    assert [at.kind if at else None for at in layouts][: len(kinds)] == kinds
