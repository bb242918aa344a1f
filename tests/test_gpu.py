"""A GPU gives what a CPU gives, to a tolerance; all of it is skipped where there is no GPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import cut_files
from tests.training.test_loop import CONFIG, run
from zoo.analyses.engine import compare_models
from zoo.study.fingerprint import fingerprint

GPU = "cuda"
# Convolutions on a GPU are in TF32 by torch's own default: 10 bits, so 1e-3 of a product.
TOLERANCE = 1e-2

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture
def models(make_model):
    return [make_model("vit", "a"), make_model("resnet18", "b")]


def test_cka_and_accuracy_are_those_of_a_cpu(models, digit_images):
    here, there = (
        compare_models(models, *digit_images, only=["accuracy", "cka"], device=device)
        for device in ("cpu", GPU)
    )
    assert torch.cuda.max_memory_allocated() > 0
    for name in ("cka", "cka_deconfounded"):
        ours, theirs = (found.results["cka"].data[name].values for found in (here, there))
        np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)


def test_a_fingerprint_is_that_of_a_cpu(models, digit_images):
    for model in models:
        here, there = (fingerprint(model, digit_images[0], device=d) for d in ("cpu", GPU))
        assert there.layers == here.layers
        assert there.problems == here.problems
        for point, vector in here.vectors.items():
            assert float(there.vectors[point] @ vector) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("most", [1, 0], ids=["arrays", "files"])
def test_training_follows_the_loss_curve_of_a_cpu(make_model, digit_files, tmp_path, most):
    """In the first epoch; later ones part, as with another number of threads."""
    folder = cut_files(digit_files, tmp_path / "cut", max_array_gb=most)
    config = replace(CONFIG, epochs=1, crop_padding=0)
    here, there = (run(make_model, folder, config, device=d).epochs[0] for d in ("cpu", GPU))
    # Dropout is drawn by another generator.
    assert there["validation/loss"] == pytest.approx(here["validation/loss"], rel=0.1)


def test_a_compiled_network_learns_as_it_does_otherwise(make_model, digits_folder):
    config = replace(CONFIG, epochs=1, crop_padding=0)
    made, plain = (
        run(make_model, digits_folder, replace(config, compile=c), device=GPU).epochs[0]
        for c in (True, False)
    )
    # Dropout is drawn otherwise.
    assert made["validation/loss"] == pytest.approx(plain["validation/loss"], rel=0.1)
