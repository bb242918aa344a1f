"""A network's fingerprint: of which layers it is, what it agrees with, and how it is read back."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

import zoo
from zoo.config import POINTS
from zoo.errors import UserError
from zoo.study.axes import select
from zoo.study.fingerprint import (
    fingerprint,
    fingerprint_key,
    read_fingerprint,
    read_vector,
    write_fingerprint,
)


@pytest.fixture(scope="module")
def models(make_model):
    return [make_model("vit", "a"), make_model("resnet18", "b")]


@pytest.fixture(scope="module")
def found(models, digit_images):
    return [fingerprint(model, digit_images[0]) for model in models]


def test_it_is_of_the_layers_nearest_to_each_depth(found):
    assert {point: found[0].layers[point] for point in POINTS} == {
        "0": "norm_pre",
        "0.25": "norm_pre",  # between the stem and the first of two blocks
        "0.5": "blocks.0",
        "0.75": "blocks.0",
        "1": "blocks.1",
        "features": "head",
        "logits": "output",
    }
    assert [each.family for each in found] == ["vit", "cnn"]
    assert found[0].batches == (60,)
    assert set(found[0].vectors) == set(POINTS)
    assert found[0].problems == {}


def test_its_products_are_the_cka_of_a_comparison(models, found, digit_images):
    comparison = zoo.compare(models, digit_images[0], only="cka")
    for point in ("0", "0.5", "1"):
        names = [each.layers[point] for each in found]
        cells = select(comparison["cka"]["cka"], "a", "b", name=[names[0]])
        expected = cells.values[:, list(cells["name_b"].values).index(names[1])]
        product = found[0].vectors[point] @ found[1].vectors[point]
        assert product == pytest.approx(float(expected[0]), abs=1e-6)


def test_features_are_what_the_classifier_reads(models, found, digit_images):
    seen = []
    module = models[1].module
    hook = module.fc.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        logits = models[1](zoo.models.preprocess.preprocess(digit_images[0], models[1].spec))
    hook.remove()
    other = zoo.linear_cka(seen[0].numpy(), logits.numpy())
    product = found[1].vectors["features"] @ found[1].vectors["logits"]
    assert product == pytest.approx(other, abs=1e-5)


def test_what_a_network_lacks_is_named(digit_images):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.middle = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
            self.last = nn.Conv2d(4, 10, 14)

        def forward(self, images):
            constant = self.middle(self.first(images) * 0 + 1)
            return self.last(constant).flatten(1) / 0

    model = zoo.wrap(Broken(), image_size=16, name="broken")
    found = fingerprint(model, digit_images[0])
    assert found.problems == {
        "1": "is constant",
        "features": "is not one vector an image",
        "logits": "is not finite",
    }
    assert not set(found.problems) & set(found.vectors)


def test_without_blocks_the_last_depth_is_before_the_classifier(digit_images):
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10)]
    model = zoo.wrap(nn.Sequential(*layers), image_size=16, name="plain")
    found = fingerprint(model, digit_images[0])
    assert [found.layers[at] for at in ("0", "1", "features")] == ["0", "2", "3"]
    assert found.vectors["1"] @ found.vectors["features"] == pytest.approx(1)
    assert found.vectors["1"] @ found.vectors["logits"] < 0.999


def test_it_is_read_back_as_it_was(found, tmp_path):
    file = tmp_path / "f.safetensors"
    file.write_bytes(write_fingerprint(found[0], "k", {"torch": "2"}))
    back = read_fingerprint(file, "k")
    assert (back.family, back.layers, back.batches) == ("vit", found[0].layers, (60,))
    for point in POINTS:
        np.testing.assert_array_equal(back.vectors[point], found[0].vectors[point])
        np.testing.assert_array_equal(read_vector(file, point), found[0].vectors[point])


def changed(content, **known):
    """Return a fingerprint's file with another description of it."""
    about = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
                       ["__metadata__"]["zoo"])  # fmt: skip
    return save(load(content), metadata={"zoo": json.dumps(about | known)})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"\x80\x04K\x01.",
        lambda content: b"",
        lambda content: save(load(content)),
        lambda content: changed(content, key="other"),
        lambda content: changed(content, batches=[30, 30]),
        lambda content: changed(content, problems={"1": "is constant"}),
        lambda content: changed(content, layers=None),
        lambda content: changed(content, vectors={"2": ""}),
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(found, tmp_path, damage):
    file = tmp_path / "f.safetensors"
    file.write_bytes(damage(write_fingerprint(found[0], "k", {})))
    with pytest.raises(UserError, match=r"f\.safetensors is damaged, or another fingerprint"):
        read_fingerprint(file, "k")


def test_other_models_and_other_images_have_other_keys():
    keys = {fingerprint_key(model, images) for model in "ab" for images in "cd"}
    assert len(keys) == 4
    assert fingerprint_key("a", "c") in keys
