"""Attention distance against loops and closed forms, and the analysis as a whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labelled import figures, layers, values
from zoo.analyses import attention_distance as module
from zoo.analyses.attention_distance import (
    attention_distance,
    patch_distances,
    summary,
    uniform_distance,
)
from zoo.analyses.engine import compare_models
from zoo.capture import HookPoint, observe
from zoo.config import Settings
from zoo.figures import style
from zoo.models.files import LoadedModel, describe_module
from zoo.study.axes import variable
from zoo.study.results import Metric, Result

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2}


def random_weights(seed: int, *shape: int) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=numbers, dtype=torch.float64).mul(2).softmax(-1)


def by_loops(
    weights: np.ndarray, height: int, width: int, patch: float, prefix: int, renormalise: bool
) -> float:
    """Distance of one head of one image, from (T, T) weights, written out."""
    means = []
    for i in range(height * width):
        row = weights[prefix + i, prefix:]
        total = 0.0
        for j in range(height * width):
            down, right = i // width - j // width, i % width - j % width
            total += row[j] * patch * math.hypot(down, right)
        means.append(total / row.sum() if renormalise else total)
    return sum(means) / len(means)


def uniform_by_offsets(height: int, width: int, patch: float) -> float:
    """Mean distance of two places, counting how many pairs have each offset."""
    total = sum(
        (height - abs(down)) * (width - abs(right)) * math.hypot(down, right)
        for down in range(1 - height, height)
        for right in range(1 - width, width)
    )
    return patch * total / (height * width) ** 2


def make(name: str = "vit", **kwargs) -> LoadedModel:
    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch16_224", num_classes=3, **(SMALL | kwargs)).eval()
    for parameter_name, parameter in network.named_parameters():
        if "qkv.weight" in parameter_name:
            parameter.data.normal_(std=0.4)
    return describe_module(network, name=name, image_size=16)


def some_images(count: int = 11) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, 16, 16, 3), dtype=np.uint8)


def run(*models: LoadedModel):
    return compare_models(
        models,
        some_images(),
        only=["attention-distance"],
        settings=Settings(batch_size=4, references=False),
    )


# --- the measure ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.integers(0, 99))
def test_distance_agrees_with_loops_and_stays_within_its_bounds(
    height, width, prefix, renormalise, seed
):
    tokens = prefix + height * width
    weights = random_weights(seed, 2, 3, tokens, tokens)
    found = attention_distance(weights, height, width, 4.0, prefix, renormalise=renormalise)
    assert found.shape == (2, 3)
    for image in range(2):
        for head in range(3):
            one = weights[image, head].numpy()
            expected = by_loops(one, height, width, 4.0, prefix, renormalise)
            assert float(found[image, head]) == pytest.approx(expected, abs=1e-9)
    assert found.min() >= 0
    assert found.max() <= 4.0 * math.hypot(height - 1, width - 1) + 1e-9


@pytest.mark.parametrize(
    ("height", "width", "patch"), [(1, 1, 4), (8, 8, 4), (14, 14, 16), (3, 5, 2)]
)
def test_even_attention_has_a_closed_value(height, width, patch):
    tokens = height * width
    even = torch.full((1, tokens, tokens), 1 / tokens, dtype=torch.float64)
    expected = uniform_by_offsets(height, width, patch)
    assert float(attention_distance(even, height, width, patch)[0]) == pytest.approx(expected)
    assert uniform_distance(height, width, patch) == pytest.approx(expected)


def test_attention_to_oneself_has_no_distance_and_to_the_far_corner_the_longest():
    unit = torch.eye(16)[None]
    assert float(attention_distance(unit, 4, 4, 4.0)[0]) == 0
    corners = patch_distances(2, 2, 5.0)
    to_opposite = torch.eye(4).flip(1)[None]
    assert float(attention_distance(to_opposite, 2, 2, 5.0)[0]) == pytest.approx(5 * math.sqrt(2))
    assert float(corners.max()) == pytest.approx(5 * math.sqrt(2))


def test_attention_to_a_neighbour_is_one_patch_long():
    right = torch.zeros(1, 4, 4)
    right[0, range(4), [1, 0, 3, 2]] = 1
    assert float(attention_distance(right, 2, 2, 7.0)[0]) == 7


def test_what_goes_to_the_class_token_only_counts_without_renormalising():
    patches = random_weights(0, 2, 9, 9)
    with_class = torch.zeros(2, 10, 10, dtype=torch.float64)
    with_class[:, 0] = 1 / 10
    with_class[:, 1:, 0] = 0.75
    with_class[:, 1:, 1:] = 0.25 * patches
    alone = attention_distance(patches, 3, 3, 4.0)
    torch.testing.assert_close(attention_distance(with_class, 3, 3, 4.0, prefix=1), alone)
    as_is = attention_distance(with_class, 3, 3, 4.0, prefix=1, renormalise=False)
    torch.testing.assert_close(as_is, alone / 4)


def test_a_patch_that_attends_to_no_patch_has_no_distance():
    weights = torch.eye(5)[None].repeat(2, 1, 1)
    weights[1, 3] = torch.tensor([1.0, 0, 0, 0, 0])
    found = attention_distance(weights, 2, 2, 4.0, prefix=1)
    assert found[0] == 0
    assert torch.isnan(found[1])
    assert attention_distance(weights, 2, 2, 4.0, prefix=1, renormalise=False)[1] == 0


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"expected weights .*, 17, 17\) .* got \(2, 16, 16\)"):
        attention_distance(torch.ones(2, 16, 16), 4, 4, 4.0, prefix=1)


def test_the_summary_says_what_low_and_high_layers_do():
    distances = np.array([[1.0, 9.0], [2.0, 4.0], [6.0, 8.0]])
    assert summary(distances, uniform=8.0) == {
        "lowest_layer_mean": 5.0,
        "highest_layer_mean": 7.0,
        "local_heads": 2,  # 1 and 2; 4 is half of 8 and not nearer
        "uniform": 8.0,
    }


# --- the analysis ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "prefix"),
    [
        ({}, 1),
        ({"class_token": False, "global_pool": "avg"}, 0),
        ({"reg_tokens": 2}, 3),
    ],
)
def test_a_models_distances_are_the_means_over_all_images(kwargs, prefix):
    model = make(**kwargs)
    result = run(model).results["attention-distance"]
    weights: list[np.ndarray] = []
    hook_points = [HookPoint(f"blocks.{i}.attn", "attention") for i in range(3)]
    with observe(model.module, hook_points, lambda _, w: weights.append(w.double().numpy())):
        model(some_images())
    expected = [
        [np.mean([by_loops(w[head], 4, 4, 4.0, prefix, True) for w in layer]) for head in range(2)]
        for layer in weights
    ]
    assert result.data["distance"].attrs["units"] == "pixels"
    found = values(result, "distance", "vit")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for what, value in summary(found, uniform_by_offsets(4, 4, 4.0)).items():
        assert result.metric(what, "vit") == pytest.approx(value)
    assert layers(result, "vit") == tuple(f"blocks.{i}.attn" for i in range(3))
    assert result.notes == ()


def test_models_that_do_not_attend_are_noted_or_make_it_not_applicable():
    resnet = timm.create_model("resnet10t", num_classes=3)
    resnet = describe_module(resnet, name="resnet", image_size=16)
    result = run(make(), resnet).results["attention-distance"]
    assert result.networks == ("vit",)
    assert "resnet: no attention distance" in result.notes[0]
    assert "resnet: no attention distance" in run(resnet).not_applicable["attention-distance"]


def test_heads_without_a_distance_are_named_and_leave_no_metric():
    model = make()
    attention = model.module.blocks[1].attn
    attention.qkv.bias.data[:] = 0
    # Head 2 of the second layer: every query is far nearer to the class token's key.
    attention.forward = lambda x, **_: blind_to_patches(attention, x)
    result = run(model).results["attention-distance"]
    assert any(
        "blocks.1.attn head 2 has no distance on 11 of 11 images" in note for note in result.notes
    )
    assert result.metric("local_heads", "vit") is None
    assert result.metric("highest_layer_mean", "vit") > 0
    assert np.isnan(values(result, "distance", "vit")).sum() == 1
    assert module.draw(result, ["vit"])


def blind_to_patches(attention: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    heads, tokens = attention.num_heads, x.shape[1]
    logits = torch.zeros(len(x), heads, tokens, tokens)
    logits[:, 1, :, 1:] = -math.inf
    values = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return (logits.softmax(-1) @ values).transpose(1, 2).flatten(2)


@pytest.mark.parametrize(
    ("depth", "coloured"),
    [
        (1, ["layer 1"]),
        (2, ["layer 1", "layer 2"]),
        (3, ["layer 1", "layer 2", "layer 3"]),
        (6, ["layer 1", "layer 2", "layer 5", "layer 6", "layers between"]),
    ],
)
def test_figures_sort_heads_and_colour_the_lowest_and_highest_layers(depth, coloured):
    random = np.random.default_rng(0)
    distances = variable(("layer", "head"), random.uniform(0, 9, (2 * depth, 4)), unit="pixels")
    of = {
        "network": ("layer", ["a"] * depth + ["b"] * depth),
        "heads": ("layer", [4] * 2 * depth),
    }
    uniform = tuple(Metric("uniform", 6.0, name) for name in "ab")
    result = Result(xr.Dataset({"distance": distances}, of), metrics=uniform)
    found = figures(module.draw(result, ["a", "b"]))
    assert set(found) == {"attention-distance-a", "attention-distance-b"}
    left, right = found["attention-distance-a"].axes
    texts = [text.get_text() for text in left.get_legend().get_texts()]
    assert texts == [*coloured, "even attention"]
    # Over the distance of even attention, which is 6 pixels.
    np.testing.assert_allclose(
        left.lines[0].get_ydata(), np.sort(values(result, "distance", "a")[0]) / 6
    )
    for i, heads in enumerate(values(result, "distance", "a")):
        places, drawn = right.lines[i].get_data()
        np.testing.assert_allclose(drawn, heads / 6)
        assert set(places) == {i + 1}
    assert left.get_ylim() == right.get_ylim() == found["attention-distance-b"].axes[0].get_ylim()
    lines = left.lines[:depth]
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(looks) == min(depth, 5)
    # The palette's colours stand for models.
    assert not {look[0] for look in looks} & set(style.COLOURS)
