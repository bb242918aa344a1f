"""Feature maps are what the network really computes, and figures need the arrays alone."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.analyses.cells import cell, column_labels, row_labels
from tests.labelled import values
from zoo.analyses import feature_maps
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess
from zoo.report.viewer_data import image_data


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.mix = nn.Conv2d(outputs, outputs, 1)
        self.norm = nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.norm(self.mix(self.conv(x))) + self.skip(x))


class SmallNet(nn.Module):
    """Two stages of two blocks; the network changes a block's output in place afterwards."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        sizes = [(6, 6, 1), (6, 6, 1), (6, 8, 2), (8, 8, 1)]
        self.blocks = nn.Sequential(*[Block(*size) for size in sizes])
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mul_(2).mean(dim=(2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return describe_module(SmallNet(), name="net", image_size=16)


def expected_outputs(model, images):
    net = model.module.eval()
    with torch.no_grad():
        x = net.stem(preprocess(images, model.spec))
        outputs = {"stem": x}
        for i, b in enumerate(net.blocks):
            x = torch.relu(b.norm(b.mix(b.conv(x))) + b.skip(x))
            outputs[f"blocks.{i}"] = x
    return {name: value.numpy() for name, value in outputs.items()}


def run(models, digit_images, *, labelled=True, **settings):
    images, labels = digit_images
    return compare_models(
        models,
        images,
        labels if labelled else None,
        only=["feature-maps"],
        settings=Settings(references=False, batch_size=16, shown_images=5, **settings),
    )


def test_maps_are_the_blocks_outputs_of_the_real_forward_pass(model, digit_images):
    images, labels = digit_images
    by_class = np.argsort(labels, kind="stable")
    digit_images = images[by_class], labels[by_class]
    found = run([model], digit_images)
    result, shown = found.results["feature-maps"], list(found.shown)
    assert max(shown) > 16  # some of them are not in the first batch
    expected = expected_outputs(model, digit_images[0])
    assert [part.layer for part in result.parts] == ["", *expected]
    for layer, value in expected.items():
        drawn = result.part("net", layer)["mean"].values
        assert np.allclose(drawn, value[shown].mean(axis=1), atol=1e-5)
    images = values(result, "images", "net")
    assert images.dtype == np.uint8
    assert np.array_equal(images, digit_images[0][shown])


def test_maps_lie_over_the_images_as_each_model_sees_them(digit_images):
    torch.manual_seed(0)
    known = {"interpolation": "nearest"}
    models = [
        describe_module(SmallNet(), name="whole", image_size=16, **known),
        describe_module(SmallNet(), name="middle", image_size=8, crop_fraction=0.5, **known),
    ]
    found = run(models, digit_images)
    result, shown = found.results["feature-maps"], list(found.shown)
    images = digit_images[0][shown]
    assert np.array_equal(values(result, "images", "whole"), images)
    assert np.array_equal(values(result, "images", "middle"), images[:, 4:12, 4:12])
    packed = image_data(result, "", ["whole", "middle"])
    assert {entry["label"]: entry["images"] for entry in packed["sets"]} == {
        "whole": "whole",
        "middle": "middle",
    }
    drawn = cell(feature_maps.draw(result, ["middle"])[0].figure, 1, 0)
    places = [((np.arange(8) + 0.5) * side / 8).astype(int) for side in drawn.shape[:2]]
    assert np.array_equal(drawn[np.ix_(*places)][..., :3], images[1, 4:12, 4:12])


def test_the_strongest_channels_of_each_stage_are_kept_strongest_first(model, digit_images):
    found = run([model], digit_images)
    result, shown = found.results["feature-maps"], list(found.shown)
    stages = [part.layer for part in result.parts if "strongest" in part.data]
    assert stages == ["blocks.1", "blocks.3"]
    for layer in stages:
        value = expected_outputs(model, digit_images[0])[layer][shown]
        means = [value[:, c].mean() for c in range(value.shape[1])]
        order = sorted(range(len(means)), key=lambda c: -means[c])[: feature_maps.STRONGEST]
        kept = result.part("net", layer)["strongest"]
        assert kept["channel"].values.tolist() == [f"#{channel}" for channel in order]
        assert np.allclose(kept, value[:, order], atol=1e-5)


def test_figures_are_drawn_from_the_result_alone(model, digit_images):
    result = run([model], digit_images).results["feature-maps"]
    drawn = feature_maps.draw(result, ["net"])
    assert [d.kind for d in drawn] == ["feature-maps-{}", "feature-maps-{}-strongest"]
    means, strongest = (d.figure for d in drawn)
    assert len(row_labels(means)) == 5
    assert len(column_labels(means)) == 1 + 5  # input, stem, four blocks
    assert len(column_labels(strongest)) == 1 + 2 * feature_maps.STRONGEST
    assert [t.get_text() for t in strongest.axes[0].texts if t.get_ha() == "center"][-3:-1] == [
        "blocks.1", "blocks.3",
    ]  # fmt: skip
    values = result.part("net", "blocks.0")["mean"].values[1]
    drawn = cell(means, 1, 2)  # the second image's second map
    sides = zip(values.shape, drawn.shape, strict=False)
    places = [((np.arange(n) + 0.5) * side / n).astype(int) for n, side in sides]
    green = drawn[np.ix_(*places)][..., 1].ravel()  # viridis grows greener
    assert (np.diff(green[np.argsort(values.ravel())].astype(int)) >= 0).all()


def test_a_vit_is_noted_and_alone_does_not_apply(model, make_model, digit_images):
    vit = make_model("vit", "v")
    result = run([model, vit], digit_images, labelled=False).results["feature-maps"]
    assert result.networks == ("net",)
    assert result.notes == ("v: no feature maps, since it is no convolutional network",)
    found = run([vit], digit_images)
    assert "feature-maps" not in found.results
    assert "convolutional network" in found.not_applicable["feature-maps"]


def test_values_that_are_not_finite_are_named(digit_images):
    torch.manual_seed(0)
    net = SmallNet()
    net.blocks[2].norm.running_var[0] = float("nan")
    found = run([describe_module(net, name="net", image_size=16)], digit_images)
    notes = found.results["feature-maps"].notes
    assert "net: blocks.2 is not finite" in notes
    assert not any("blocks.1" in note for note in notes)


def test_a_stage_ends_where_the_resolution_changes():
    shapes = [(8, 16, 16), (16, 16, 16), (16, 8, 8), (32, 4, 4), (32, 4, 4)]
    assert feature_maps.stage_ends(shapes) == (1, 2, 4)
