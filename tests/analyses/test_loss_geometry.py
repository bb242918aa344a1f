"""Eigenvalues of networks' losses against the whole Hessian, and what is made of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from zoo.analyses import choose_analyses
from zoo.analyses import loss_geometry as analysis
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.measures.intervals import mean_interval
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess

CLASSES = list("abc")
ALONE = Settings(references=False, show="classes")


def small(name, width, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, width), nn.Tanh(), nn.Linear(width, 3)
    )
    return describe_module(net, name=name, image_size=8, class_names=CLASSES)


@pytest.fixture(scope="module")
def compared():
    models = [small("a", 4), small("b", 2, seed=1)]
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    labels = random.integers(0, 3, 40)
    told = []
    found = compare_models(
        models, images, labels, class_names=CLASSES, only=["loss-geometry"], settings=ALONE,
        on_progress=lambda *of: told.append(of),
    )  # fmt: skip
    return models, images, labels, found.results["loss-geometry"], told


def whole_hessian(model, images, labels):
    names, parameters = zip(*model.module.double().named_parameters(), strict=True)
    sizes = [p.numel() for p in parameters]
    pixels = preprocess(images, model.spec).double()

    def loss(flat):
        parts = zip(names, flat.split(sizes), parameters, strict=True)
        weights = {name: part.view_as(p) for name, part, p in parts}
        return cross_entropy(functional_call(model.module, weights, (pixels,)), labels)

    flat = torch.cat([p.detach().flatten() for p in parameters])
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).numpy()
    model.module.float()
    return values[np.argsort(-np.abs(values))]


def test_eigenvalues_are_those_of_the_whole_hessian_of_each_batch(compared):
    models, images, labels, result, _ = compared
    rows = np.random.default_rng(0).permutation(40)[:32].reshape(2, 16)
    assert result.images == 32
    for model in models:
        for b, batch in enumerate(rows):
            expected = whole_hessian(model, images[batch], torch.from_numpy(labels[batch]))[:5]
            found = result.data["eigenvalue"].sel(network=model.name).values[b]
            assert found == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_metrics_are_means_over_batches(compared):
    result = compared[3]
    values = {name: result.data["eigenvalue"].sel(network=name).values for name in "ab"}
    for name, of in values.items():
        assert result.metric("largest", name) == pytest.approx(of.max(axis=1).mean())
        assert result.metric("negative_share", name) == pytest.approx((of < 0).mean())
    logs = np.log(values["a"].max(axis=1)) - np.log(values["b"].max(axis=1))
    ratio = result.find("largest_log_ratio", "a", "b")
    assert [ratio.value, ratio.low, ratio.high] == pytest.approx(mean_interval(logs).tolist())


def test_it_tells_how_far_it_is_and_leaves_the_networks_as_they_were(compared):
    models, *_, result, told = compared
    counted = [(done, total) for done, total, what in told if what == "Hessians"]
    assert counted == [(i, 4) for i in range(4)]
    assert all(p.grad is None and p.requires_grad for p in models[0].module.parameters())
    (drawing,) = analysis.draw(result, ["a", "b"])
    (axis,) = drawing.figure.axes
    drawn = np.concatenate([line.get_xdata() for line in axis.lines[:-1]])
    assert np.allclose(np.sort(drawn), np.sort(result.data["eigenvalue"].values.ravel()))


def test_attention_is_differentiated_twice(make_model, digit_images):
    images, labels = digit_images[0][:32], digit_images[1][:32]
    found = compare_models(
        [make_model("vit", "v")], images, labels, class_names=[str(i) for i in range(10)],
        only=["loss-geometry"], settings=ALONE,
    )  # fmt: skip
    assert np.isfinite(found.results["loss-geometry"].data["eigenvalue"]).all()


def test_it_runs_on_request_alone():
    assert "loss-geometry" not in choose_analyses()
    assert "loss-geometry" not in choose_analyses(skip=["cka"])
    assert choose_analyses(only=["loss-geometry", "cka"]) == ("cka", "loss-geometry")


def test_too_few_images_and_a_loss_that_is_no_number_are_named():
    models = [small("a", 4)]
    images = np.zeros((20, 8, 8, 3), np.uint8)
    labels = np.arange(20) % 3
    found = compare_models(
        models, images, labels, class_names=CLASSES, only=["loss-geometry"], settings=ALONE
    )
    assert "at least 32 images" in found.not_applicable["loss-geometry"]
    with torch.no_grad():
        models[0].module[2].weight.fill_(torch.nan)
    images, labels = np.zeros((32, 8, 8, 3), np.uint8), np.arange(32) % 3
    result = compare_models(
        models, images, labels, class_names=CLASSES, only=["loss-geometry"], settings=ALONE
    ).results["loss-geometry"]
    assert "a: batch 1: the loss is not finite" in result.notes
    assert result.metrics == ()
