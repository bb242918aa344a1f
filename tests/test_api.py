"""`zoo.wrap` and `zoo.compare` on networks of one's own."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.engine import compare_models
from zoo.errors import UserError


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 10),
    )  # fmt: skip


def compare(images, *networks, **known):
    models = [
        zoo.wrap(network, name=f"net{i}", image_size=16, **known)
        for i, network in enumerate(networks)
    ]
    return zoo.compare(models, images, only=["cka"])


def test_networks_with_other_weights_make_another_comparison(digit_images):
    images, _ = digit_images
    first = compare(images, small_network(0), small_network(1)).digest
    assert compare(images, small_network(0), small_network(1)).digest == first
    assert compare(images, small_network(0), small_network(2)).digest != first


def test_pixels_scaled_another_way_make_another_comparison(digit_images):
    images, _ = digit_images
    plain = compare(images, small_network(0), small_network(1))
    scaled = compare(images, small_network(0), small_network(1), mean=[0.5] * 3)
    assert plain.digest != scaled.digest
    assert plain.metrics != scaled.metrics


def test_a_mean_given_as_numpys_numbers_is_a_mean(digit_images):
    images, _ = digit_images
    network = small_network(0)
    known = [{"mean": kind([0.5] * 3), "std": kind([0.25] * 3)} for kind in (list, np.array)]
    plain, numpys = (compare(images, network, **k).metrics for k in known)
    assert plain == numpys


def test_a_bare_network_is_told_how_to_be_compared(digit_images):
    said = "models: expected a reference or zoo.wrap(net, image_size=...), got Sequential; wrap it"
    with pytest.raises(UserError, match=re.escape(said)):
        zoo.compare([small_network(0)], digit_images[0])


def test_labels_below_zero_are_named(digit_images):
    model = zoo.wrap(small_network(0), image_size=16, class_names=[str(i) for i in range(10)])
    labels = np.full(len(digit_images[0]), -1)
    with pytest.raises(UserError, match="labels: expected class indices from 0 on, got -1"):
        compare_models([model], digit_images[0], labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: zoo.load(3), "expected a model's name or folder as text, got int '3'"),
        (
            lambda _: zoo.wrap("x", image_size=8),
            "expected a network to wrap, got str",
        ),
        (
            lambda _: zoo.wrap(small_network(0), image_size=8, classnames=[]),
            "unknown argument of zoo.wrap: 'classnames'; did you mean 'class_names'",
        ),
        (lambda images: zoo.compare("a", images), "models: expected a list of them, got str"),
        (
            lambda images: compare(images, small_network(0), class_names=["a", "b", "c"]),
            "net0: expected an output for each of its 3 class_names, got 10 outputs; name all",
        ),
    ],
)
def test_what_python_cannot_take_is_told_as_expected_and_got(digit_images, call, message):
    with pytest.raises(UserError, match=message):
        call(digit_images[0])


def test_one_analysis_may_be_named_without_a_list(digit_images):
    model = zoo.wrap(small_network(0), image_size=16)
    images = digit_images[0][:8]
    assert set(zoo.compare([model], images, only="cka").results) == {"cka"}
    with pytest.raises(UserError, match="unknown analysis 'ckaa'"):
        zoo.compare([model], images, skip="ckaa")
