"""Patches as colours, against the blocks' outputs taken by hand."""

import numpy as np
import pytest
import torch

from zoo.analyses.engine import compare_models
from zoo.analyses.patch_components import draw
from zoo.config import Settings
from zoo.measures.patch_components import component_colours, patch_components
from zoo.models.preprocess import model_input


def test_colours_are_those_of_the_last_blocks_patches(make_model, digit_images):
    vit, cnn = make_model("vit"), make_model("resnet18", seed=1)
    images, labels = digit_images[0][:12], digit_images[1][:12]
    found = compare_models(
        [vit, cnn], images, labels, class_names=[str(i) for i in range(10)],
        only=["patch-components"], settings=Settings(references=False, batch_size=5),
    )  # fmt: skip
    result, seen = found.results["patch-components"], []
    hook = vit.module.blocks[-1].register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        vit.module.eval()(model_input(images, vit.spec, vit.module))
    hook.remove()
    places = seen[0][list(found.shown), 1:].numpy()
    expected = patch_components(places)
    part = result.part("vit-0")
    scores = part["score"].values.reshape(expected.scores.shape)
    assert np.allclose(np.abs(scores), np.abs(expected.scores), atol=1e-3)
    assert np.array_equal(part["colour"].values, component_colours(scores).reshape(6, 4, 4, 3))
    assert result.metric("explained", "vit-0") == pytest.approx(expected.explained.sum(), rel=1e-4)
    assert result.part("resnet18-1").attrs["layer_name"] == "layer3.1"
    assert result.notes[0].startswith("resnet18-1: patches are those of layer3.1 (4 × 4)")
    (drawing,) = draw(result, ["vit-0", "resnet18-1"])
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert {"image", "vit-0", "resnet18-1"} <= set(texts)
    above = [text for text in drawing.figure.axes[0].texts if "\n(#" in text.get_text()]
    assert [text.get_rotation() for text in above] == [0] * 6
