import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from torch import nn

from tests.analyses.cells import cell, column_labels, row_labels
from zoo.analyses import localisation
from zoo.analyses.engine import compare_models
from zoo.analyses.localisation import (
    cut_patches,
    spread_places,
    stacked_grams,
)
from zoo.config import Settings
from zoo.figures import style
from zoo.measures import localisation as localisation_measures
from zoo.measures.localisation import HsicSums, localisation_score
from zoo.models.files import describe_module

SIDE = 16


class Keep(nn.Module):
    """A block that hands its tokens on, in another order if one is given."""

    def __init__(self, width, order=None):
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        self.first.weight.data = self.second.weight.data = torch.eye(width)
        self.order = order

    def forward(self, x):
        x = self.second(self.first(x))
        return x if self.order is None else x[:, self.order]


class Cut(nn.Module):
    def forward(self, x):
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4)
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def identity_net(order=None):
    blocks = [Keep(48), Keep(48), Keep(48, order)]
    return nn.Sequential(Cut(), nn.Sequential(*blocks), nn.Flatten(), nn.Linear(48 * 16, 4))


class Narrow(nn.Module):
    """A block of convolutions that can halve the resolution."""

    def __init__(self, stride):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, stride=stride)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu()).relu()


def narrowing_net(*strides):
    torch.manual_seed(0)
    body = nn.Sequential(*(Narrow(stride) for stride in strides))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), body, *head)


def noise(n=40, side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def compare(module, images, batch_size=128):
    models = [describe_module(module, name="m", image_size=SIDE)]
    made = Settings(references=False, batch_size=batch_size)
    return compare_models(models, images, only=["localisation"], settings=made).results[
        "localisation"
    ]


def hsic(x, y):
    """HSIC₁ as it is written for K = xxᵀ and L = yyᵀ with zero diagonals."""
    n = len(x)
    K, L = x @ x.T, y @ y.T
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    total = np.trace(K @ L) + one @ K @ one * (one @ L @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))


def test_all_pairs_at_once_match_the_written_formula_averaged_over_batches():
    random = np.random.default_rng(1)
    batches = [
        (random.normal(size=(n, 5, 7)), random.normal(size=(n, 3, 4)) + 3) for n in (8, 8, 12)
    ]
    for tokens, patches in batches:
        patches[:, 1] += tokens[:, 2, :4]
    sums = HsicSums()
    for tokens, patches in batches:
        grams = [stacked_grams(torch.tensor(v).unbind(1)) for v in (tokens, patches)]
        sums.add(*grams, len(tokens))
    found = sums.cka()
    for t in range(5):
        for p in range(3):
            pairs = [(tokens[:, t], patches[:, p]) for tokens, patches in batches]
            cross = np.mean([hsic(x, y) for x, y in pairs])
            own = [np.mean([hsic(v[i], v[i]) for v in pairs]) for i in (0, 1)]
            assert found[t, p] == pytest.approx(cross / math.sqrt(own[0] * own[1]))
    assert found[2].argmax() == 1


def test_patches_in_chunks_give_the_same(monkeypatch):
    grams = stacked_grams(torch.randn(9, 8, 5, dtype=torch.float64))
    whole, parts = HsicSums(), HsicSums()
    whole.add(grams[:2], grams, 8)
    monkeypatch.setattr(localisation_measures, "PATCHES_AT_ONCE", 4)
    parts.add(grams[:2], grams, 8)
    np.testing.assert_allclose(parts.cka(), whole.cka())
    assert whole.cka()[1, 1] == pytest.approx(1)


@pytest.mark.parametrize(("side", "grid"), [(16, (4, 4)), (15, (4, 2))])
def test_patches_are_cut_row_by_row_and_cover_the_image_once(side, grid):
    pixels = torch.arange(2 * 3 * side * side).reshape(2, 3, side, side)
    patches = cut_patches(pixels, *grid)
    assert len(patches) == grid[0] * grid[1]
    covered = torch.cat([patch.flatten() for patch in patches])
    assert torch.equal(covered.sort().values, pixels.flatten())
    if side == 16:
        assert torch.equal(patches[6], pixels[:, :, 4:8, 8:12])


def test_the_score_counts_tokens_whose_best_patch_is_their_own():
    own = np.arange(4)
    cka = np.full((4, 4), 0.1) + 0.8 * np.eye(4)
    assert localisation_score(cka, own) == 1
    assert localisation_score(np.roll(cka, 1, axis=0), own) == 0
    cka[3] = [0.1, 0.95, 0.1, 0.9]
    assert localisation_score(cka, own) == 0.75


def test_constant_patches_and_tokens_are_left_out_of_the_score():
    cka = np.eye(4)
    cka[:, 0] = np.nan
    cka[2] = np.nan
    cka[3] = [np.nan, 0.9, 0.1, 0.2]
    assert localisation_score(cka, np.arange(4)) == 0.5  # of the tokens 1 and 3
    assert np.isnan(localisation_score(np.full((2, 2), np.nan), np.arange(2)))


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), most=st.integers(4, 200))
def test_places_are_spread_over_the_grid_and_never_too_many(height, width, most):
    places = spread_places(height, width, most)
    assert len(places) <= most or height * width <= most
    assert len(set(places)) == len(places)
    assert {0, height * width - 1} <= set(places.tolist())
    if height * width <= most:
        assert places.tolist() == list(range(height * width))


def maps(result, which):
    """CKA (tokens, patches) of a block."""
    (part,) = [part for part in result.parts if part.data.attrs["which"] == which]
    return part.data["cka"].values.reshape(part.data.sizes["token"], -1)


@pytest.mark.parametrize("batch_size", [10, 40])
def test_a_network_that_hands_its_tokens_on_is_perfectly_localised(batch_size):
    result = compare(identity_net(), noise(), batch_size)
    assert result.metric("score_last_block", "m") == 1
    assert result.metric("score_last_but_one_block", "m") == 1
    assert result.metric("chance", "m") == 1 / 16
    cka = maps(result, "last_block")
    np.testing.assert_allclose(np.diagonal(cka), 1, atol=1e-5)
    assert not result.notes


def test_a_network_that_permutes_its_tokens_is_not_and_the_map_shows_where_they_went():
    order = [(5 * i + 3) % 16 for i in range(16)]
    result = compare(identity_net(order), noise())
    moved = sum(i != place for i, place in enumerate(order))
    assert result.metric("score_last_block", "m") == 1 - moved / 16 < 0.2
    assert result.metric("score_last_but_one_block", "m") == 1
    assert maps(result, "last_block").argmax(axis=1).tolist() == order


def test_constant_patches_are_named_once_and_hatched():
    images = noise()
    images[:, :4, :4] = 0
    images[:, 12:, 12:] = 200
    result = compare(identity_net(), images)
    cka = maps(result, "last_block")
    assert np.isnan(cka[:, [0, 15]]).all()
    assert np.isfinite(cka[1:15, 1:15]).all()
    assert result.metric("score_last_block", "m") == 1
    assert result.metric("chance", "m") == 1 / 14
    patches = [note for note in result.notes if "patches" in note]
    assert len(patches) == 1
    assert "2 of 16 patches" in patches[0]
    assert patches[0].endswith("(0,0) (3,3)")
    shown = cell(localisation.draw(result, ["m"])[0].figure, 0, 1)
    side = shown.shape[0] // 4
    clear = shown[side // 2 :: side, side // 2 :: side, 3] == 0
    assert clear[:4, :4].ravel().nonzero()[0].tolist() == [0, 15]


def test_a_patch_that_varies_in_some_batches_only_is_still_compared():
    images = noise()
    images[:20, :4, :4] = 0
    result = compare(identity_net(), images, batch_size=10)
    assert maps(result, "last_block")[0, 0] == pytest.approx(1, abs=1e-5)
    assert not result.notes


def test_a_cnns_small_last_grid_is_passed_over_and_said_so():
    result = compare(narrowing_net(1, 2, 2, 2), noise())
    assert [(part.data.attrs["which"], part.layer) for part in result.parts] == [
        ("last_block", "1.2"),
        ("last_but_one_block", "1.1"),
    ]
    assert maps(result, "last_block").shape == (16, 16)
    assert maps(result, "last_but_one_block").shape == (64, 64)
    assert "1.2 (4 × 4) is taken instead" in result.notes[0]


def test_a_large_grid_is_looked_at_on_a_regular_grid_and_said_so():
    result = compare(narrowing_net(1, 1), noise())
    assert maps(result, "last_block").shape == (14 * 14, 16 * 16)
    assert "at most 196 tokens" in result.notes[0]
    places = [result.parts[0].data[f"token_{axis}"].values for axis in ("row", "column")]
    assert [(place[0], place[-1]) for place in places] == [(0, 15), (0, 15)]


def test_a_cnn_that_only_filters_is_localised_by_location():
    module = narrowing_net(1, 1)
    for block in module[1]:
        for conv in (block.first, block.second):
            nn.init.dirac_(conv.weight)
            nn.init.zeros_(conv.bias)
    nn.init.dirac_(module[0].weight)
    nn.init.zeros_(module[0].bias)
    result = compare(module, noise())
    assert result.metric("score_last_block", "m") == 1


def test_models_without_enough_places_do_not_apply():
    module = narrowing_net(2, 2, 2)
    module[1][0].first.stride = (8, 8)
    model = describe_module(module, name="m", image_size=SIDE)
    found = compare_models([model], noise(), only=["localisation"])
    assert "lies over the image" in found.not_applicable["localisation"]


def test_figures_show_three_tokens_of_two_blocks(make_model, digit_images):
    models = [make_model("vit", "v"), describe_module(identity_net(), name="k", image_size=SIDE)]
    found = compare_models(models, digit_images[0], only=["localisation"])
    drawn = localisation.draw(found.results["localisation"], ["v", "k"])
    assert [(d.kind, d.of) for d in drawn] == [
        ("localisation-{}", ("v",)),
        ("localisation-{}", ("k",)),
        ("localisation-score", ()),
    ]
    grid = drawn[0].figure
    assert column_labels(grid) == ["corner token", "edge token", "centre token"]
    assert row_labels(grid) == ["blocks.1", "blocks.0"]
    axis = drawn[2].figure.axes[0]
    assert axis.get_yticklabels()[1].get_text() == "k"
    bars = [bar.get_facecolor() for bar in axis.patches]
    assert [to_hex(colour) for colour in bars] == [to_hex(style.COLOURS[i]) for i in (0, 0, 1, 1)]
    assert [colour[3] for colour in bars] == [1, 0.45, 1, 0.45]
    # No name of a layer lies under the line of chance.
    assert all(text.get_position()[0] > axis.lines[0].get_xdata()[0] for text in axis.texts)


def test_the_outlined_patch_is_the_tokens_own():
    axis = localisation.draw(compare(identity_net(), noise()), ["m"])[0].figure.axes[0]
    cells = axis.images[0].get_array()
    assert len(axis.patches) == 6
    for outline in axis.patches:
        (x, y), side = outline.get_xy(), outline.get_width()
        # Of tokens that are handed on, the brightest patch of the map, at the end of viridis.
        assert cells[int(y + side / 2), int(x + side / 2)].tolist() == [253, 231, 36, 255]


def test_each_bar_is_the_score_of_its_own_block():
    result = compare(identity_net([(5 * i + 3) % 16 for i in range(16)]), noise())
    last, before = localisation.draw(result, ["m"])[1].figure.axes[0].patches
    assert last.get_width() == result.metric("score_last_block", "m") < 0.2
    assert before.get_width() == result.metric("score_last_but_one_block", "m") == 1


@pytest.mark.parametrize("batch_size", [10, 40])
def test_a_token_that_is_not_finite_once_is_named_and_has_no_cka(batch_size):
    images = np.maximum(noise(), 1)
    images[25, 0, 0] = 0  # in the first patch of one image
    module = identity_net()
    module[0].register_forward_hook(
        lambda part, args, output: torch.where(output == 0, torch.nan, output)
    )
    result = compare(module, images, batch_size)
    cka = maps(result, "last_block")
    assert np.isnan(cka[0]).all()
    np.testing.assert_allclose(np.diagonal(cka)[1:], 1, atol=1e-5)
    assert result.metric("score_last_block", "m") == 1
    said = "m: 1 of 16 tokens of 1.2 are constant or not finite and left out of the score: (0,0)"
    assert said in result.notes
