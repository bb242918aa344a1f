import numpy as np
import pytest
import torch
from torch import nn

from tests.labelled import figures, values
from zoo.analyses import ablation
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.models.files import describe_module

SIDE = 16
CLASSES = [str(i) for i in range(10)]


def linear(weight):
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight, dtype=torch.float32)
    return layer


class Carrier(nn.Module):
    """Adds channel 0 to channel 1 (the first block), or nothing that the head reads."""

    def __init__(self, writes):
        super().__init__()
        self.first = linear([[1, 0], [0, 1]])
        self.second = linear([[0, 0], [1, 0]] if writes else [[0.5, 0], [0, 0]])

    def forward(self, x):
        return x + self.second(self.first(x))


class Bare(Carrier):
    """The same without a sum; it counts as a block of the same kind."""

    block_type = Carrier

    def forward(self, x):
        return self.second(self.first(x))


class Sign(nn.Module):
    """Tell bright images from dark ones by a number that only the first block writes."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Carrier(True), Carrier(False)])
        self.head = linear([[0, -1], [0, 1]])

    def forward(self, x):
        brightness = x.mean(dim=1).unfold(1, 4, 4).unfold(2, 4, 4).mean(dim=(3, 4)).flatten(1)
        x = torch.stack([brightness - 0.5, torch.zeros_like(brightness)], dim=-1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


def compare(models, images, labels, classes=(), batch_size=128):
    made = Settings(references=False, batch_size=batch_size)
    found = compare_models(
        models, images, labels, class_names=classes, only=["ablation"], settings=made
    )
    return found.results["ablation"]


def described(module, name, **known):
    return describe_module(module, name=name, image_size=SIDE, **known)


@pytest.fixture
def sign_images():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    bright = np.where(labels[:, None, None, None] == 1, 160, 20)
    return (bright + random.integers(0, 60, (40, SIDE, SIDE, 3))).astype(np.uint8), labels


def test_zeroing_a_part_costs_what_it_carries(sign_images):
    images, labels = sign_images
    model = described(Sign(), "sign", class_names=["dark", "bright"])
    result = compare([model], images, labels, classes=["dark", "bright"], batch_size=16)
    assert result.metric("accuracy_intact", "sign") == 1
    parts = result.data["part"].values
    drops = dict(zip(parts, values(result, "accuracy_drop", "sign"), strict=True))
    # Without the first branch nothing is written: every image looks dark. Without the second
    # skip, what was written is lost. The other two parts carry nothing that is read.
    assert drops["branch"].tolist() == [0.5, 0]
    assert drops["skip"].tolist() == [0, 0.5]
    assert result.metric("worst_drop_without_branch", "sign") == 0.5
    assert result.metric("worst_drop_without_skip", "sign") == 0.5
    assert (result.images, result.notes) == (40, ())


def test_all_models_see_the_same_images_as_many_as_the_deepest_has_time_for(
    sign_images, monkeypatch
):
    images, labels = sign_images
    monkeypatch.setattr(ablation, "ABLATED_PASSES", 160)
    monkeypatch.setattr(ablation, "FEWEST", 4)
    deep, shallow = Sign(), Sign()
    deep.blocks.extend([Carrier(False), Carrier(False)])
    names = {"class_names": ["dark", "bright"]}
    models = [described(deep, "deep", **names), described(shallow, "shallow", **names)]
    result = compare(models, images, labels, classes=["dark", "bright"])
    assert result.images == 20  # 160 passes over 8 ablations; the shallow one has time for 40
    assert result.notes[0].startswith("measured on 20 of 40 images, drawn at random to save time")
    drawn = figures(ablation.draw(result, ["deep", "shallow"]))
    titles = [axis.get_title(loc="left") for axis in drawn["ablation"].axes]
    assert titles == ["deep: 100.0 % intact, 20 images", "shallow: 100.0 % intact, 20 images"]


def test_no_more_than_128_images_are_used(sign_images):
    images, labels = (np.concatenate([part] * 5) for part in sign_images)
    model = described(Sign(), "sign", class_names=["dark", "bright"])
    result = compare([model], images, labels, classes=["dark", "bright"])
    assert result.images == 128


def test_a_model_of_other_classes_is_named(make_model, digit_images):
    images, labels = digit_images
    other = make_model("vit", "other", class_names=list("abcdefghij"))
    result = compare([make_model("vit", "v"), other], images, labels, classes=CLASSES)
    assert any(note.startswith("other: not ablated") for note in result.notes)
    assert result.networks == ("v",)
    assert {metric.network for metric in result.metrics} == {"v"}


def test_without_labels_or_a_model_that_knows_them_it_does_not_apply(make_model, digit_images):
    images, labels = digit_images
    model = make_model("vit", "v")
    found = compare_models([model], images, only=["ablation"])
    assert found.not_applicable["ablation"] == "the images have no labels"
    found = compare_models([model], images, labels, class_names=list("abc"), only=["ablation"])
    assert found.not_applicable["ablation"].endswith(
        "trained on other classes than these images show"
    )


def test_blocks_and_models_without_sums_are_named(sign_images):
    images, labels = sign_images
    net = Sign()
    net.blocks[1] = Bare(True)
    names = {"class_names": ["dark", "bright"]}
    model = described(net, "half", **names)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
    plain_model = described(plain, "plain", **names)
    result = compare([model, plain_model], images, labels, classes=["dark", "bright"])
    assert any(n.startswith("half: found no residual sum in blocks.1: ") for n in result.notes)
    drops = values(result, "accuracy_drop", "half")
    assert np.isfinite(drops[:, 0]).all()
    assert np.isnan(drops[:, 1]).all()
    assert result.networks == ("half",)
    assert any(note.startswith("plain: not ablated: no residual sum") for note in result.notes)


def test_the_figure_is_drawn_from_the_result_alone(make_model, digit_images):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_model("vit-gap", "g")]
    result = compare(models, images, labels, classes=CLASSES)
    drawn = figures(ablation.draw(result, ["v", "g"]))
    assert list(drawn) == ["ablation"]
    figure = drawn["ablation"]
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    intact = result.metric("accuracy_intact", "v")
    assert titles[0] == f"v: {100 * intact:.1f} % intact, 60 images"
    assert [len(axis.patches) for axis in figure.axes] == [2 * 2, 2 * 2]
    shades = {bar.get_facecolor() for bar in figure.axes[0].patches}
    assert len(shades) == 2
    assert all(red == green == blue for red, green, blue, _ in shades)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    expected = 100 * values(result, "accuracy_drop", "v").ravel()
    np.testing.assert_allclose(heights, expected)
