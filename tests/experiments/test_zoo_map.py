"""Maps of made fingerprints whose groups and neighbours are known."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from zoo.errors import UserError
from zoo.experiments.zoo_map import Agreement, Member, agreements, nearest_to, zoo_map
from zoo.experiments.zoo_map_figures import MARKERS, draw_matrix, draw_plane
from zoo.figures import style
from zoo.measures.fingerprints import fingerprint_of
from zoo.measures.linear_cka import centred_gram

IMAGES = 24


def made(centre, noise, seed):
    """Return the fingerprint of features that are a group's own, and some of their own."""
    random = np.random.default_rng(seed)
    shared = np.random.default_rng(1000 + centre).normal(size=(IMAGES, 6))
    values = np.hstack([shared, noise * random.normal(size=(IMAGES, 6))])
    gram = centred_gram(torch.from_numpy(values)).values.numpy()
    return fingerprint_of([gram.reshape(IMAGES, IMAGES)])


@pytest.fixture
def prints():
    """Three groups, each of three: the third of each is noisier than the others."""
    return [made(i // 3, (0.2, 0.3, 0.6)[i % 3], i) for i in range(9)]


@pytest.fixture
def members():
    families = ["vit"] * 3 + ["cnn"] * 3 + ["mlp"] * 3
    return [
        Member(f"m{i}/1", f"m{i}", family, f"digits {'abc'[i % 3]}", None if i == 8 else i)
        for i, family in enumerate(families)
    ]


def test_models_of_a_group_are_neighbours_and_branches_of_one_stem(prints, members):
    data = zoo_map(members, prints.__getitem__, [IMAGES])
    assert data["nearest"].values[:, 0].tolist() == [1, 0, 0, 4, 3, 3, 7, 6, 6]
    groups = [int(i) // 3 for i in data["order"].values]
    assert all(len({*groups[k : k + 3]}) == 1 for k in (0, 3, 6))
    np.testing.assert_allclose(
        data["nearest_cka"], np.take_along_axis(data["cka"].values, data["nearest"].values, 1)
    )
    low, high = data["nearest_cka_ci"].values[..., 0], data["nearest_cka_ci"].values[..., 1]
    assert (low < data["nearest_cka"]).all()
    assert (high > data["nearest_cka"]).all()
    apart = np.linalg.norm(data["position"].values[:, None] - data["position"].values, axis=-1)
    assert apart[0, 1] < apart[0, 3:].min()
    assert 0.5 < float(data["share"]) < 1


def test_neighbours_of_the_first_are_those_of_the_map(prints, members):
    data = zoo_map(members, prints.__getitem__, [IMAGES])
    found = nearest_to(prints.__getitem__, 9, [IMAGES], most=3)
    assert [near.index for near in found] == data["nearest"].values[0].tolist()
    assert [near.low for near in found] == pytest.approx(data["nearest_cka_ci"].values[0, :, 0])
    assert len(nearest_to(prints.__getitem__, 9, [IMAGES], most=50)) == 8


def test_agreement_is_counted_against_any_neighbour(prints, members):
    data = zoo_map(members, prints.__getitem__, [IMAGES])
    family, trained_on = agreements(data)
    assert family == Agreement("family", 9, pytest.approx(9 * 2 / 8))
    assert trained_on == Agreement("data", 0, pytest.approx(9 * 2 / 8))
    alike = data.assign_coords(data=("network", ["digits"] * 9), model=("network", [*"aabbccdde"]))
    of_model, family = agreements(alike)  # all trained on the same is nothing to be counted
    assert of_model == Agreement("model", 4, pytest.approx(1))
    assert family.what == "family"


def test_what_is_not_known_of_two_models_is_not_shared(prints, members):
    unknown = [
        dataclasses.replace(m, data="", family="other" if i < 6 else "mlp")
        for i, m in enumerate(members)
    ]
    (family,) = agreements(zoo_map(unknown, prints.__getitem__, [IMAGES]))
    assert family == Agreement("family", 3, pytest.approx(3 * 2 / 8))


def test_the_same_model_twice_has_a_map(prints, members):
    data = zoo_map(members[:2], [prints[0], prints[0]].__getitem__, [IMAGES])
    assert data["cka"].values == pytest.approx(1)
    assert np.isnan(float(data["share"]))
    assert "all models are alike" in draw_plane(data).axes[0].get_title("left")
    with pytest.raises(UserError, match="needs two or more models with a fingerprint, got 1"):
        zoo_map(members[:1], prints.__getitem__, [IMAGES])


def test_the_plane_shows_family_data_and_seed(prints, members):
    figure = draw_plane(zoo_map(members, prints.__getitem__, [IMAGES]))
    (axis,) = figure.axes
    written = [text.get_text() for text in axis.texts]
    assert sorted(written) == sorted([*map(str, range(8)), *(f"m{i}" for i in range(9))])
    assert len({line.get_color() for line in axis.lines}) == 3
    assert {line.get_marker() for line in axis.lines} == {*MARKERS[:3]}
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    data = ["digits a", "digits b", "digits c"]
    assert shown == ["family:", "cnn", "mlp", "vit", "trained on:", *data]


def test_what_is_written_in_the_plane_covers_nothing(prints, members):
    """Twelve versions of three models, all but one of each model in almost the same place."""
    many = [
        dataclasses.replace(members[3 * (i % 3)], name=f"{i}", model="abc"[i % 3] * 9, seed=i)
        for i in range(12)
    ]
    figure = draw_plane(zoo_map(many, lambda i: prints[3 * (i % 3) + (i < 3)], [IMAGES]))
    (axis,) = figure.axes
    figure.draw_without_rendering()
    texts = [text.get_window_extent().padded(-1) for text in axis.texts]
    marks = [axis.transData.transform(line.get_xydata()[0]) for line in axis.lines]
    assert len(texts) == 12 + 3
    for text in texts:
        assert text.count_overlaps(texts) == 1  # itself
        assert not any(text.contains(*mark) for mark in marks)


def test_the_matrix_is_in_the_order_of_the_tree(prints, members):
    data = zoo_map(members, prints.__getitem__, [IMAGES])
    figure = draw_matrix(data)
    matrix, _, tree, _ = figure.axes
    order = data["order"].values
    shown = [label.get_text() for label in matrix.get_yticklabels()]
    assert shown == [members[i].name for i in order]
    np.testing.assert_allclose(
        matrix.images[0].get_array(), data["cka"].values[np.ix_(order, order)]
    )
    # Every merge is a bar as high as the mean of 1 − CKA between the two sides.
    bars = tree.collections[0].get_segments()
    assert [bar[1][1] for bar in bars] == pytest.approx(data["merges"].values[:, 2].tolist())
    assert all(bar[0][1] <= bar[1][1] and bar[3][1] <= bar[2][1] for bar in bars)


def test_the_strip_above_the_matrix_has_the_families_in_the_order_of_the_tree(prints, members):
    mixed = [0, 3, 6, 1, 4, 7, 2, 5, 8]
    data = zoo_map([members[i] for i in mixed], [prints[i] for i in mixed].__getitem__, [IMAGES])
    strip = draw_matrix(data).axes[1]
    families = [members[mixed[i]].family for i in data["order"].values]
    colours = [to_hex(band.get_facecolor()) for band in strip.patches]
    assert colours == [to_hex(style.FAMILY_COLOURS[family]) for family in families]
    assert [band.get_x() for band in strip.patches] == [place - 0.5 for place in range(9)]


def test_more_models_than_labels_have_a_matrix(prints, members):
    many = [dataclasses.replace(members[i % 9], name=f"m{i}") for i in range(70)]
    figure = draw_matrix(zoo_map(many, lambda i: prints[i % 9], [IMAGES]))
    assert figure.axes[0].get_ylabel() == "70 models, in the order of the tree"
    plane = draw_plane(zoo_map(many, lambda i: prints[i % 9], [IMAGES]))
    assert not [text for text in plane.axes[0].texts if text.get_text().isdigit()]
