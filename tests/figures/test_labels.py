import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.figures.test_style import assert_legible
from tests.report.names import LAYERS
from zoo.figures import style
from zoo.figures.labels import choose_labels, shorten


@given(st.integers(1, 300), st.integers(2, 40), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_chosen_labels_are_far_enough_apart(count: int, most: int, layers_a_block: int):
    names = [f"blocks.{i // layers_a_block}.norm{i % layers_a_block}" for i in range(count)]
    positions, labels = choose_labels(names, most)
    assert positions[0] == 0
    assert len(labels) == len(positions) <= most
    for a, b in pairwise(positions):
        assert b - a >= count / most or count <= most
    if count <= most:
        assert labels == names
    else:
        assert all(
            f"{names[i]}.".startswith(f"{label}.")
            for i, label in zip(positions, labels, strict=True)
        )


@pytest.mark.parametrize("most", [12, 20, 34])
@pytest.mark.parametrize("names", LAYERS.values(), ids=LAYERS)
def test_an_axis_of_200_layers_has_many_labels_and_no_two_alike(names: list[str], most: int):
    assert 150 <= len(names) <= 210
    positions, labels = choose_labels(names, most)
    assert most / 3 <= len(labels) <= most
    # They stand all along the axis: no gap is wider than a fifth of it.
    assert max(np.diff([*positions, len(names)])) <= len(names) / 5
    for length in (13, 18, 24):
        assert len({shorten(label, length) for label in labels}) == len(labels)


@pytest.mark.parametrize(
    ("library", "label"),
    [
        ("timm ViT", "blocks.1"),
        ("timm ResNet-50", "layer1.1"),
        ("timm ConvNeXt", "stages.0.blocks.1"),
        ("torchvision ViT", "encoder.layers.encoder_layer_1"),
        ("Hugging Face ViT", "vit.encoder.layer.1"),
    ],
)
def test_labels_name_blocks(library: str, label: str):
    assert label in choose_labels(LAYERS[library], 40)[1]


@pytest.mark.parametrize("names", LAYERS.values(), ids=LAYERS)
def test_maps_of_200_layers_are_legible_in_every_library(names: list[str]):
    values = np.zeros((len(names), len(names)))
    panel = style.HeatMap(values, names, names, "one", "other")
    assert_legible(style.heat_maps([panel] * 3, colour_label="CKA", low=0, high=1))


@given(st.text(alphabet="ab.1", min_size=1, max_size=60), st.integers(8, 30))
@settings(max_examples=200, deadline=None)
def test_shortened_names_fit_and_keep_their_end(name: str, length: int):
    short = shorten(name, length)
    assert len(short) <= length
    if len(name) > length:
        *inner, tail = short.split("…")
        assert name.endswith(tail)
        assert tail
        assert all(part in name for part in inner)
    else:
        assert short == name


@pytest.mark.parametrize("length", [13, 16, 18, 24])
@pytest.mark.parametrize("library", ["timm ViT", "torchvision ViT", "Hugging Face ViT"])
def test_a_shortened_name_keeps_the_number_of_its_block(library: str, length: int):
    for name in LAYERS[library]:
        number = re.search(r"(?:\.|layer_)(\d+)\.", name)
        if number:
            assert re.search(rf"(^|\D){number[1]}(\D|$)", shorten(name, length)), name
