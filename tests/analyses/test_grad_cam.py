"""Grad-CAM against closed forms, and what a comparison makes of it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests.analyses.cells import column_labels
from zoo.analyses import grad_cam as analysis
from zoo.analyses.class_maps import class_maps, grad_cam, probabilities_of, rollout_maps
from zoo.analyses.engine import compare_models
from zoo.analyses.grad_cam import true_classes
from zoo.analyses.rollout import attention_rollout, token_maps
from zoo.capture.hook_points import HookPoint, observe
from zoo.config import Settings
from zoo.figures import style
from zoo.measures.deletion import deletion_curves, upsample
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess
from zoo.study.networks import Grid, Study
from zoo.study.prepare import prepare_study

CLASSES = tuple(str(i) for i in range(10))


class Pair(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x):
        return self.second(self.first(x))


class CamNet(nn.Module):
    """Two convolutional blocks, the mean over places, and a linear classifier."""

    def __init__(self, classes=4):
        super().__init__()
        self.blocks = nn.Sequential(Pair(3, 5, 1), Pair(5, 7, 2))
        self.fc = nn.Linear(7, classes)

    def forward(self, x):
        return self.fc(self.blocks(x).mean(dim=(2, 3)))


ALONE = Settings(references=False, batch_size=16)


def study_of(models, images, labels=None, **known):
    """Run the one analysis."""
    return compare_models(models, images, labels, only=["grad-cam"], settings=ALONE, **known)


def prepared(models, images):
    return prepare_study(models, images, None, (), (), ALONE, "cpu")


@pytest.fixture
def cam_model():
    torch.manual_seed(0)
    return describe_module(CamNet(), name="c", image_size=16)


def make_mixer():
    torch.manual_seed(0)
    module = build("mixer", classes=10, image_size=16, embed_dim=16, num_blocks=2)
    nn.init.normal_(module.head.weight)  # timm starts it at zero: nothing would decide
    return describe_module(module, name="m", image_size=16)


@pytest.fixture
def twelve():
    return np.random.default_rng(0).integers(0, 255, size=(12, 16, 16, 3), dtype=np.uint8)


def test_after_a_mean_over_places_it_is_the_class_weights_times_the_features(cam_model, twelve):
    subject = prepared([cam_model], twelve).networks[0]
    pixels = preprocess(twelve, cam_model.spec)
    classes = torch.arange(12) % 4
    maps, place = class_maps(subject, pixels, classes)
    with torch.no_grad():
        features = cam_model.module.blocks(pixels)
        weighted = torch.einsum("nc,nchw->nhw", cam_model.module.fc.weight[classes], features)
    assert place == "output"
    assert torch.allclose(maps, weighted.clamp(min=0) / 64, atol=1e-7)
    assert (maps == 0).any()
    assert (maps > 0).any()


def test_the_formula_written_out_in_loops():
    random = np.random.default_rng(0)
    activation, gradient = random.normal(size=(2, 3, 6, 4))
    expected = np.zeros((3, 6))
    for n in range(3):
        for place in range(6):
            total = 0.0
            for c in range(4):
                total += gradient[n, :, c].sum() / 6 * activation[n, place, c]
            expected[n, place] = max(0.0, total)
    found = grad_cam(torch.tensor(activation), torch.tensor(gradient)).numpy()
    assert np.allclose(found, expected)


def test_a_class_token_models_map_is_taken_at_the_last_blocks_input(make_model, digit_images):
    images = digit_images[0][:12]
    model = make_model("vit", "v")
    subject = prepared([model], images).networks[0]
    pixels, classes = preprocess(images, model.spec), torch.arange(12) % 10
    maps, place = class_maps(subject, pixels, classes)
    net = model.module.eval()
    with torch.no_grad():
        tokens = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(pixels))))
        tokens = net.blocks[0](tokens)
    tokens.requires_grad_()
    logits = net.forward_head(net.norm(net.blocks[1](tokens)))
    logits[torch.arange(12), classes].sum().backward()
    alpha = tokens.grad[:, 1:].mean(dim=1)
    expected = (tokens.detach()[:, 1:] @ alpha[:, :, None])[..., 0].clamp(min=0).view(12, 4, 4)
    assert place == "input"
    assert torch.allclose(maps, expected, atol=1e-6)
    assert (maps > 0).any()


def test_a_model_that_pools_its_tokens_is_explained_at_the_output(make_model, digit_images):
    images = digit_images[0][:12]
    for model in (make_model("vit-gap", "g"), make_mixer()):
        subject = prepared([model], images).networks[0]
        pixels = preprocess(images, model.spec)
        maps, place = class_maps(subject, pixels, torch.zeros(12, dtype=torch.long))
        assert place == "output"
        assert maps.shape == (12, 4, 4)
        assert (maps > 0).any()


def test_explaining_leaves_the_model_as_it_was(cam_model, twelve):
    cam_model.module.train()
    before = {name: value.clone() for name, value in cam_model.module.state_dict().items()}
    study_of([cam_model], twelve)
    assert cam_model.module.training
    assert all(p.grad is None for p in cam_model.module.parameters())
    after = cam_model.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(part._forward_hooks for part in cam_model.module.modules())


def test_the_rollout_is_that_of_attention_maps(make_model, digit_images):
    images = digit_images[0][:12]
    model = make_model("vit", "v")
    subject = prepared([model], images).networks[0]
    attending = analysis.attending_networks(prepared([model], images))[0]
    pixels = preprocess(images, model.spec)
    weights = []
    hook_points = [HookPoint(name, "attention") for name in attending.layers]
    with torch.no_grad(), observe(model.module.eval(), hook_points, lambda t, v: weights.append(v)):
        model.module(pixels)
    grid = Grid(1, 4, 4, 4.0)
    expected = token_maps(attention_rollout(weights), grid, class_token=True).transpose(0, 1)
    last = rollout_maps(subject, attending, pixels)
    assert torch.allclose(last, expected[:, -1:], atol=1e-6)
    both = rollout_maps(subject, attending, pixels, attending.layers)
    assert torch.allclose(both, expected, atol=1e-6)


def test_true_classes_are_matched_by_name_where_both_have_names(cam_model):
    labels = np.array([0, 1, 2, 1])
    images = np.zeros((4, 8, 8, 3), dtype=np.uint8)

    def found(own, study_names, labels=labels):
        model = describe_module(CamNet(), name="m", image_size=16, class_names=list(own))
        subject = type("S", (), {"model": model})()
        study = Study((), images, labels, tuple(study_names), (0,), Settings(), torch.device("cpu"))
        result = true_classes(study, subject, 4)
        return None if result is None else result.tolist()

    assert found("abcd", "abc") == [0, 1, 2, 1]
    assert found("cbad", "abc") == [2, 1, 0, 1]
    assert found("ax", "abc") == [0, -1, -1, -1]
    assert found("", "abc") == [0, 1, 2, 1]
    assert found("", "", np.array([0, 3, 4, -1])) == [0, 3, -1, -1]
    assert found("abcd", "abc", None) is None


def test_a_comparison_scores_maps_beside_random_ones_and_rollout(make_model, digit_images):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_model("vit-gap", "g")]
    found = study_of(models, images, labels, class_names=CLASSES)
    result = found.results["grad-cam"]
    assert result.networks == ("v", "g")
    for name in result.networks:
        for kind in ("predicted", "rollout", "random"):
            curves = result.part(name)["deletion"].sel(order=kind).values
            assert curves.shape == (32, 11)
            area = np.trapezoid(curves, np.linspace(0, 1, 11), axis=1).mean()
            assert result.metric(f"deletion_area_{kind}", name) == pytest.approx(area)
    shown = list(found.shown)
    of_v = result.part("v")
    indices = of_v["tested_image"].values
    assert len(set(indices.tolist())) == 32
    # Which images are tested does not depend on which are shown.
    settings = dataclasses.replace(ALONE, show="0,1")
    others = compare_models(
        models[:1], images, labels, only=["grad-cam"], settings=settings, class_names=CLASSES
    ).results["grad-cam"]
    assert np.array_equal(others.part("v")["tested_image"], indices)
    assert others.metric("deletion_area_random", "v") == pytest.approx(
        result.metric("deletion_area_random", "v")
    )
    logits = models[0](images[indices])
    assert np.allclose(
        of_v["deletion"].sel(order="predicted").values[:, 0], logits.softmax(1).amax(1), atol=1e-5
    )
    predicted = models[0](images[shown]).argmax(dim=1)
    assert of_v["predicted_class"].values.tolist() == [str(int(p)) for p in predicted]
    assert of_v["true_class"].values.tolist() == [str(labels[i]) for i in shown]
    assert any("input of its last block" in note for note in result.notes if note[0] == "v")
    assert not any("input of its last block" in note for note in result.notes if note[0] == "g")


def test_pixels_are_removed_in_the_order_of_the_last_layers_rollout(make_model, digit_images):
    images, labels = digit_images
    model = make_model("vit", "v")
    found = study_of([model], images, labels, class_names=CLASSES).results["grad-cam"].part("v")
    tested = found["tested_image"].values
    study = prepared([model], images)
    pixels = preprocess(images[tested], model.spec)
    attending = analysis.attending_networks(study)[0]
    first, last = rollout_maps(study.networks[0], attending, pixels, attending.layers).unbind(1)
    curves = deletion_curves(
        lambda x: probabilities_of(study.networks[0], x), pixels,
        {"first": upsample(first, 16, 16), "last": upsample(last, 16, 16)},
        model(images[tested]).argmax(1),
    )  # fmt: skip
    drawn = found["deletion"].sel(order="rollout").values
    np.testing.assert_allclose(drawn, curves["last"], atol=1e-5)
    assert not np.allclose(drawn, curves["first"], atol=1e-5)


def test_the_true_class_has_a_map_only_where_another_is_predicted(cam_model, twelve):
    predicted = cam_model(twelve).argmax(dim=1).numpy()
    labels = np.where(np.arange(12) % 2, predicted, (predicted + 1) % 4)
    names = list("abcd")
    part = study_of([cam_model], twelve, labels, class_names=names).results["grad-cam"].part("c")
    shown = [int(str(name).split("#")[1].rstrip(")")) for name in part["image"].values]
    subject = prepared([cam_model], twelve).networks[0]
    pixels = preprocess(twelve, cam_model.spec)
    maps, _ = class_maps(subject, pixels, torch.from_numpy(labels))
    assert any(i % 2 for i in shown)
    for found, i in zip(part["true"].values, shown, strict=True):
        if i % 2:
            assert np.isnan(found).all()
        else:
            assert np.allclose(found, maps[i], atol=1e-6)
    right = study_of([cam_model], twelve, predicted, class_names=names).results["grad-cam"]
    assert "true" not in right.part("c")


def test_the_map_of_an_image_does_not_depend_on_the_others(cam_model, twelve):
    subject = prepared([cam_model], twelve).networks[0]
    pixels, classes = preprocess(twelve, cam_model.spec), torch.arange(12) % 4
    together, _ = class_maps(subject, pixels, classes)
    alone, _ = class_maps(subject, pixels[9:10], classes[9:10])
    assert torch.allclose(together[9:10], alone, atol=1e-6)


def test_figures_are_drawn_from_the_result_alone(make_model, digit_images):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_mixer(), make_model("vit-gap", "g")]
    result = study_of(models, images, labels, class_names=CLASSES).results["grad-cam"]
    first, second, third, deletion = analysis.draw(result, ["v", "m", "g"])
    assert [d.of for d in (first, second, third, deletion)] == [("v",), ("m",), ("g",), ()]
    classes = ["Grad-CAM\npredicted class", "Grad-CAM\ntrue class"]
    assert column_labels(first.figure) == [
        "input", "rollout\nlayer 1", "rollout\nlayer 2", *classes,
    ]  # fmt: skip
    assert column_labels(second.figure) == ["input", *classes]
    axes = deletion.figure.axes
    assert len(axes) == 3
    for axis, colour in zip(axes, style.COLOURS, strict=False):
        *own, random = [(line.get_color(), line.get_linestyle()) for line in axis.lines]
        assert {look[0] for look in own} == {colour}
        assert len({look[1] for look in (*own, random)}) == len(own) + 1
        assert random[0] not in style.COLOURS


def test_a_map_not_told_apart_from_random_is_noted(make_model, digit_images):
    images, labels = digit_images
    result = study_of([make_model("vit", "v")], images, labels, class_names=CLASSES).results[
        "grad-cam"
    ]
    gain = result.find("area_minus_random_predicted", "v")
    curves = result.part("v")["deletion"]
    areas = [np.trapezoid(curves.sel(order=k), dx=0.1, axis=1) for k in ("predicted", "random")]
    assert gain.value == pytest.approx((areas[0] - areas[1]).mean(), abs=1e-6)
    said = [note for note in result.notes if note.startswith("v: Grad-CAM: cannot be")]
    assert len(said) == (gain.high >= 0)
    for values, words in (((-0.1, -0.2, 0.05), "not distinguishable from random"),
                          ((-0.1, -0.15, -0.05), "lower than random by 0.05 to 0.15")):  # fmt: skip
        changed = dataclasses.replace(
            gain, **dict(zip(("value", "low", "high"), values, strict=True))
        )
        others = [metric for metric in result.metrics if metric != gain]
        drawn = analysis.draw(dataclasses.replace(result, metrics=(*others, changed)), ["v"])
        (text,) = drawn[-1].figure.axes[0].texts
        line = next(x for x in text.get_text().splitlines() if x.startswith("Grad-CAM"))
        assert line.endswith(words)


def test_models_without_a_map_are_noted_and_alone_do_not_apply(cam_model, twelve):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 4))
    flat = describe_module(flat, name="flat", image_size=16)
    found = study_of([cam_model, flat], twelve)
    assert found.results["grad-cam"].networks == ("c",)
    assert "flat: no map, since no block's output lies over the image" in (
        found.results["grad-cam"].notes
    )
    assert "no block's output" in study_of([flat], twelve).not_applicable["grad-cam"]


def test_a_class_that_nothing_speaks_for_is_named(cam_model, twelve):
    with torch.no_grad():
        cam_model.module.fc.weight.zero_()
    found = study_of([cam_model], twelve)
    assert "do not depend on any place of blocks.1" in found.not_applicable["grad-cam"]
    with torch.no_grad():
        cam_model.module.fc.weight.fill_(-1)
        cam_model.module.blocks[1].second.weight.abs_()
        cam_model.module.blocks[1].second.bias.fill_(50)
    notes = study_of([cam_model], twelve).results["grad-cam"].notes
    assert any(note.startswith("c: on 12 of 12 images no place speaks") for note in notes)
