import dataclasses

import numpy as np
import pytest
import torch

from zoo.errors import UserError
from zoo.models.files import LoadedModel, load_model, save_model
from zoo.models.predict import BATCH, probabilities


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("count", [0, 1, 7, 2 * BATCH + 3])
def test_batches_of_any_size_are_the_softmax_of_the_logits(make_model, count):
    model = make_model()
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    expected = softmax(model(images).double().numpy()) if count else np.zeros((0, 10))
    got = probabilities(model, images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(probabilities(model, list(images)), expected, atol=1e-6)


def test_images_of_several_sizes_are_each_preprocessed_alone(make_model):
    model, random = make_model(), np.random.default_rng(0)
    sizes = [(16, 16, 3), (40, 24, 3), (9, 31, 3)]
    images = [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    alone = [softmax(model(image[None]).double().numpy())[0] for image in images]
    np.testing.assert_allclose(probabilities(model, images), alone, atol=1e-6)


def test_a_model_without_a_classifier_says_so(make_model):
    model = make_model()
    spec = dataclasses.replace(model.spec, class_names=[])
    with pytest.raises(UserError, match="vit-0 has no classifier"):
        probabilities(LoadedModel("vit-0", model.module, spec), np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("bad", ["weights", "numbers"])
def test_nan_is_refused_not_printed(make_model, tmp_path, bad):
    """NaN among a version's weights names itself when it is loaded, also by `zoo verify`."""
    model = make_model("vit", "broken")
    images = np.zeros((3, 16, 16, 3), np.uint8)
    with torch.no_grad():
        head = model.module.head.weight
        head[1] = float("nan") if bad == "weights" else float("inf")
    save_model(tmp_path / "broken", model.module, model.spec)
    if bad == "weights":
        with pytest.raises(UserError, match=r"safetensors: 'head.weight' holds NaN, as after a"):
            load_model(tmp_path / "broken")
    else:
        with pytest.raises(UserError, match="broken gives NaN for 3 of 3 images, so it names no"):
            probabilities(load_model(tmp_path / "broken"), images)
