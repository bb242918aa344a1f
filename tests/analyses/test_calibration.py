"""Calibration of networks whose outputs are known, against the measures on all images."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from zoo.analyses.calibration import draw
from zoo.analyses.engine import compare_models
from zoo.claims import judge
from zoo.config import Settings
from zoo.measures.calibration import fit_temperature, log_probabilities
from zoo.measures.ridge import hold_out
from zoo.models.files import describe_module

CLASSES = [str(i) for i in range(5)]


class Told(nn.Module):
    """Answers with logits that were hidden in the images' pixels, times a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return x[:, 0, 0, :5] * self.factor * 16


def model(name, factor):
    return describe_module(
        Told(factor), name=name, image_size=8, arch="told", class_names=CLASSES,
        mean=(0.5, 0.5, 0.5), std=(1, 1, 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def compared():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(300, 8, 8, 3), dtype=np.uint8)
    logits = (images[:, 0, :5, 0] / 255 - 0.5) * 16
    chance = np.exp(log_probabilities(logits))
    labels = (random.random((300, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    models = [model("calibrated", 1), model("sharp", 4)]
    found = compare_models(
        models, images, labels, class_names=CLASSES, only=["calibration"],
        settings=Settings(references=False),
    )  # fmt: skip
    return found, logits, labels


def test_likelihood_and_overconfidence_are_those_of_all_images(compared):
    found, logits, labels = compared
    result = found.results["calibration"]
    for name, factor in (("calibrated", 1), ("sharp", 4)):
        loss = torch.nn.functional.cross_entropy(
            torch.as_tensor(factor * logits), torch.as_tensor(labels)
        )
        assert result.metric("likelihood", name) == pytest.approx(float(loss), rel=1e-4)
        chance = torch.softmax(torch.as_tensor(factor * logits), dim=1).numpy()
        gap = chance.max(axis=1).mean() - (chance.argmax(axis=1) == labels).mean()
        assert result.metric("overconfidence", name) == pytest.approx(gap, abs=1e-4)


def test_scaling_finds_the_factor_and_undoes_it(compared):
    result = compared[0].results["calibration"]
    one, four = (result.metric("temperature", name) for name in ("calibrated", "sharp"))
    assert one == pytest.approx(1, abs=0.3)
    assert four == pytest.approx(4 * one, rel=1e-3)
    of = [result.metric("likelihood_scaled", name) for name in ("calibrated", "sharp")]
    assert of[0] == pytest.approx(of[1], rel=1e-4)
    errors = [result.metric("error_scaled", name) for name in ("calibrated", "sharp")]
    assert errors[0] == pytest.approx(errors[1], abs=1e-3)
    assert errors[1] < result.metric("error", "sharp")
    assert (result.data["images"].sum("bin") == 300).all()


def test_each_half_is_scaled_by_the_temperature_of_the_other(compared):
    """Of logits that are four times as large in one half, no half's own temperature fits it."""
    _, logits, labels = compared
    halves = hold_out(labels, 0.5, seed=0)
    told = logits / 4
    told[halves[0]] *= 4
    images = np.zeros((300, 8, 8, 3), dtype=np.uint8)
    images[:, 0, :5, 0] = np.round((told / 16 + 0.5) * 255)
    found = compare_models(
        [model("told", 1)], images, labels, class_names=CLASSES, only=["calibration"],
        settings=Settings(references=False),
    ).results["calibration"]  # fmt: skip
    told = (images[:, 0, :5, 0] / 255 - 0.5) * 16
    losses = []
    for one, other in (halves, halves[::-1]):
        scaled = torch.as_tensor(told[one] / fit_temperature(told[other], labels[other]))
        losses.append(torch.nn.functional.cross_entropy(scaled, torch.as_tensor(labels[one])))
    expected = np.average(losses, weights=[len(half) for half in halves])
    assert found.metric("likelihood_scaled", "told") == pytest.approx(expected, rel=1e-4)
    assert expected > 1.2 * found.metric("likelihood", "told")


def test_the_claim_asks_for_more_than_chance(compared):
    verdicts = {v.models[0]: v for v in judge(compared[0]) if v.claim.id == "G-overconfident"}
    assert verdicts["sharp"].measurement.low > 0 > verdicts["calibrated"].measurement.low
    assert verdicts["calibrated"].reason == "the interval includes the threshold"


def test_each_panel_says_its_errors(compared):
    result = compared[0].results["calibration"]
    (drawing,) = draw(result, ["calibrated", "sharp"])
    panel = drawing.figure.axes[1]
    texts = [text.get_text() for text in panel.get_legend().get_texts()]
    assert texts[0].startswith(f"as it is: {result.metric('error', 'sharp'):.3f} (")
    assert panel.get_title(loc="left").startswith("sharp\ncalibration error (by chance 0.")
    for axis, name in zip(drawing.figure.axes, ("calibrated", "sharp"), strict=True):
        for container, output in zip(axis.containers, ("logits", "scaled"), strict=True):
            of = result.data.sel(network=name, output=output)
            confidence, accuracy = container.lines[0].get_data()
            assert np.array_equal(confidence, of["confidence"])
            assert np.array_equal(accuracy, of["accuracy"])


def test_a_network_that_is_always_right_is_not_scaled(make_model):
    images = np.zeros((20, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(20) % 5
    images[np.arange(20), 0, labels, 0] = 255
    found = compare_models(
        [model("right", 1)], images, labels, class_names=CLASSES, only=["calibration"],
        settings=Settings(references=False),
    )  # fmt: skip
    result = found.results["calibration"]
    assert result.notes == ("right: not scaled: no temperature is best for these images",)
    assert result.metric("temperature", "right") is None
    assert len(draw(result, ["right"])) == 1


def test_probabilities_are_not_taken_for_logits():
    # A second softmax would leave every confidence near 1 / classes.
    images = np.random.default_rng(0).integers(0, 256, size=(40, 8, 8, 3), dtype=np.uint8)
    told = model("told", 1.0)
    sure = dataclasses.replace(told, name="sure", module=nn.Sequential(told.module, nn.Softmax(1)))
    found = compare_models(
        [told, sure], images, np.arange(40) % 5, class_names=CLASSES,
        only=["calibration", "accuracy"], settings=Settings(references=False),
    )  # fmt: skip
    result = found.results["calibration"]
    assert [result.metric("error", name) is None for name in ("told", "sure")] == [False, True]
    assert "sure: no calibration: its outputs are probabilities; leave out the softmax" in (
        result.notes
    )
    accuracy = found.results["accuracy"]
    assert accuracy.metric("accuracy", "sure") == accuracy.metric("accuracy", "told")
