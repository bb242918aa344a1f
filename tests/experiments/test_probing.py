import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from timm.models.vision_transformer import Block
from torch import nn

from tests.labelled import layers, values
from zoo.analyses.probed_layers import CLS, MEAN
from zoo.data.subsets import Subset, load_subset
from zoo.errors import UserError
from zoo.experiments.probing import PIXELS, probe_model
from zoo.experiments.probing_report import UNTRAINED, draw, rows
from zoo.measures.ridge import fit_layers
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess
from zoo.study.axes import select
from zoo.study.results import INITIAL
from zoo.study.spatial_layout import choose_images


@pytest.fixture(scope="module")
def parts(digits_folder):
    """Forty digits to fit on, and the test split."""
    return load_subset(digits_folder / "small"), load_subset(digits_folder / "test")


def cut(subset, count, **info):
    return Subset(subset.images[:count], subset.labels[:count],
                  dataclasses.replace(subset.info, count=count, **info))  # fmt: skip


def block_output(model, images, path):
    out = {}
    part = model.module.get_submodule(path)
    hook = part.register_forward_hook(lambda _, __, y: out.update(y=y))
    with torch.no_grad():
        model.module.eval()(preprocess(np.array(images), model.spec))
    hook.remove()
    return out["y"].double().numpy()


@pytest.mark.parametrize(("arch", "path", "poolings"), [
    ("vit", "blocks.1", {CLS: lambda x: x[:, 0], MEAN: lambda x: x[:, 1:].mean(1)}),
    ("vit-gap", "blocks.1", {MEAN: lambda x: x.mean(1)}),
    ("test_resnet", "layer2.0", {MEAN: lambda x: x.mean((2, 3))}),
])  # fmt: skip
def test_probes_are_ridge_classifiers_fitted_on_the_subset(make_model, parts, arch, path, poolings):
    model = make_model(arch)
    train, test = parts
    result = probe_model(model, train, test)
    known = select(result.data["accuracy"], model.name).dropna("pooling", how="all")
    assert set(known["pooling"].values) == set(poolings)
    for j, pooling in enumerate(known["pooling"].values):
        fit, judge = (poolings[pooling](block_output(model, p.images, path)) for p in parts)
        i = layers(result, model.name, "accuracy").index(path)
        penalty = values(result, "penalty", model.name)[i, j]
        unit = np.linalg.eigvalsh(np.cov(fit.T, bias=True)).mean() * len(fit)
        expected = RidgeClassifier(alpha=penalty * unit).fit(fit, train.labels)
        accuracy = (expected.predict(judge) == test.labels).mean()
        assert known.values[i, j] == pytest.approx(accuracy, abs=0.006)
    assert (result.data.attrs["fit_images"], result.data.attrs["test_images"]) == (40, 359)
    most = np.bincount(train.labels).argmax()
    assert result.metric("chance") == (np.array(test.labels) == most).mean()


def test_a_class_token_before_the_first_block_is_named(make_model, parts):
    result = probe_model(make_model("vit", "vit-tiny"), *parts)
    assert "vit-tiny: stem, class token: no probe, since features are constant" in result.notes
    found = rows(result)
    assert [row["layer"] for row in found[:-1:3]] == ["stem", "blocks.0", "blocks.1"]
    first = {row["pooling"]: row for row in found if row["layer"] == "stem"}
    assert list(first) == [CLS, MEAN, UNTRAINED]
    assert first[CLS]["all"] is None
    assert first[MEAN]["all"] > 0.2
    assert all(math.isfinite(metric.value) for metric in result.metrics)
    named = {(metric.measure, metric.network) for metric in result.metrics}
    assert {("cls_last_accuracy", "vit-tiny"), ("chance", "")} <= named


def test_few_shot_takes_as_many_as_asked(make_model, parts):
    model, (train, test) = make_model("vit-gap", "m"), parts
    whole = probe_model(model, train, test, few_shot=4)
    # Four of each class are all of them, whatever the draw.
    assert values(whole, "few_shot", "m") == pytest.approx(values(whole, "accuracy", "m"))
    assert not any("few-shot" in note for note in whole.notes)
    fewer = probe_model(model, train, test, few_shot=2)
    assert (values(fewer, "few_shot", "m") != values(fewer, "accuracy", "m")).any()
    assert any(
        "fewer than 9 images" in n for n in probe_model(model, train, test, few_shot=9).notes
    )


def test_features_that_do_not_fit_are_fewer_and_said_so(make_model, parts, monkeypatch):
    monkeypatch.setattr("zoo.experiments.probing.MAX_NUMBERS", 16 * 16 * 3 * 30)
    result = probe_model(make_model("vit-gap"), *parts)
    assert (result.data.attrs["fit_images"], result.data.attrs["test_images"]) == (30, 30)
    assert "test: 30 of 359 images, at random" in result.notes
    # They keep their labels.
    drawn = [choose_images(len(part), 30, seed=0) for part in parts]
    alone = probe_model(
        make_model("vit-gap"),
        *(Subset(part.images[rows], part.labels[rows], part.info)
          for part, rows in zip(parts, drawn, strict=True)),
    )  # fmt: skip
    for kind in ("accuracy", "few_shot", "penalty"):
        assert np.array_equal(result.data[kind], alone.data[kind], equal_nan=True)


def test_raw_pixels_and_the_untrained_network_are_baselines(make_model, parts):
    model, (train, test) = make_model("vit", "v"), parts
    untrained = probe_model(model, train, test, few_shot=3)
    model.module.load_state_dict(make_model("vit", seed=1).module.state_dict())
    result = probe_model(model, train, test, few_shot=3)
    fit, judged = (np.array(p.images).reshape(len(p), -1) / np.float32(255) for p in parts)
    labels, expected = np.array(train.labels), np.array(test.labels)
    pixels = fit_layers({"": fit}, labels, {"": judged}, expected, few_shot=3)[""]
    assert result.metric("pixels_accuracy") == pixels.all.accuracy
    assert result.metric("pixels_few_shot_accuracy") == pixels.few_shot
    for kind in ("accuracy", "few_shot", "penalty"):
        before = select(result.data[kind], model="v", state=INITIAL)
        own = select(untrained.data[kind], "v")
        assert np.array_equal(before.sel(pooling=MEAN).values, own.sel(pooling=MEAN).values)
        assert np.isnan(before.sel(pooling=CLS).values).all()
    (name,) = np.unique(before["network"].values)
    for measure in ("last_block_mean_accuracy", "few_shot_last_block_mean_accuracy"):
        assert result.metric(measure, name) == untrained.metric(measure, "v")
        assert result.metric(measure, name) != result.metric(measure, "v")
    last = rows(result)[-1]
    assert last == {
        "layer": PIXELS, "depth": None, "pooling": "", "all": pixels.all.accuracy,
        "few": pixels.few_shot, "penalty": None,
    }  # fmt: skip
    shown = (pixels.all.accuracy, pixels.few_shot)
    for axis, accuracy in zip(draw(result).axes, shown, strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert lines[PIXELS].get_ydata()[0] == accuracy
        assert UNTRAINED in lines


def test_images_all_alike_have_no_pixel_baseline(make_model, parts):
    train, test = (dataclasses.replace(p, images=np.full((len(p), 4, 4, 3), 7, np.uint8))
                   for p in parts)  # fmt: skip
    result = probe_model(make_model("vit", "v"), train, test)
    assert "raw pixels: no probe, since features are constant" in result.notes
    assert not any("pixels" in metric.measure for metric in result.metrics)
    assert rows(result)[-1]["layer"] != PIXELS


def test_the_figure_has_both_panels(make_model, parts):
    figure = draw(probe_model(make_model("vit"), *parts, few_shot=3), few_shot=3)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["fitted on 40 images", "few-shot: at most 3 images a class"]
    assert len({axis.title.get_fontsize() for axis in figure.axes}) == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"few_shot": 1}, "few-shot: expected 2 or more"),
    ({"test": lambda t: cut(t, 3)}, "4 test images; small has 40, test 3"),
    ({"train": lambda t: cut(t, 10)}, "two or more training images each"),
    ({"test": lambda t: cut(t, 9, class_names=list("abcdefghij"))},
     "small and test: expected the same classes, got 0, 1, 2, 3, … and a, b, c, d, …"),
    ({"layers": "nothing"}, "'nothing' matches none"),
])  # fmt: skip
def test_what_cannot_be_probed_says_so(make_model, parts, change, message):
    change = dict(change)
    train, test = (
        change.pop("train", lambda t: t)(parts[0]),
        change.pop("test", lambda t: t)(parts[1]),
    )
    with pytest.raises(UserError, match=message):
        probe_model(make_model("vit"), train, test, **change)


class Strip(nn.Module):
    """Mixes fifteen tokens, which are no grid of 16 pixels a side."""

    num_prefix_tokens = 0

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 2), Block(8, 2))
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.blocks(x.flatten(1)[:, :120].view(-1, 15, 8)).mean(dim=1))


def test_a_model_whose_tokens_do_not_lie_over_the_image_is_refused(parts):
    strip = describe_module(Strip(), name="strip", image_size=16)
    with pytest.raises(UserError, match="nothing to probe: strip: layers not probed, since their"):
        probe_model(strip, *parts)


class Linear(nn.Module):
    """A classifier of pixels, without a layer before it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 10)

    def forward(self, x):
        return self.head(x.flatten(1))


def test_a_classifier_alone_is_refused(parts):
    linear = describe_module(Linear(), name="linear", image_size=16)
    with pytest.raises(UserError, match="to probe: linear has no layer before its classifier"):
        probe_model(linear, *parts)
