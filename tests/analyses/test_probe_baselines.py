"""What linear probes are read against: raw pixels, and the network before training."""

import numpy as np
import pytest

from tests.labelled import values
from zoo.analyses import probes
from zoo.analyses.engine import compare_models
from zoo.analyses.probed_layers import pixel_features
from zoo.config import Settings
from zoo.data.subsets import load_subset
from zoo.measures.ridge import fit_layers
from zoo.measures.sampling import stratified_split
from zoo.study.spatial_layout import choose_images


def run(models, images, labels, references=False):
    made = Settings(references=references, batch_size=25)
    return compare_models(models, images, labels, only=["probes"], settings=made)


def test_raw_pixels_and_the_untrained_network_are_baselines(make_model, digits_folder, monkeypatch):
    test = load_subset(digits_folder / "test")
    images, labels = np.array(test.images[:200]), np.array(test.labels[:200]) % 3
    monkeypatch.setattr(probes, "MAX_IMAGES", 150)
    model = make_model("vit", "v")
    untrained = run([model], images, labels).results["probes"]
    model.module.load_state_dict(make_model("vit", seed=1).module.state_dict())
    found = run([model], images, labels, references=True).results["probes"]
    for kind in ("accuracy", "few_shot"):
        drawn = values(found, kind, "v untrained")
        assert np.array_equal(drawn, values(untrained, kind, "v"), equal_nan=True)
        assert not np.array_equal(drawn, values(found, kind, "v"), equal_nan=True)
    assert untrained.networks == ("v",)
    middle, last = (values(found, "accuracy", "v untrained")[i, 1] for i in (1, 2))
    assert found.metric("middle_accuracy", "v untrained") == middle
    assert found.metric("last_block_mean_accuracy", "v untrained") == last

    chosen = choose_images(len(images), 150, seed=0)
    x, y = images[chosen].reshape(150, -1) / np.float32(255), labels[chosen]
    train, test = stratified_split(y, 0.5, seed=0)
    expected = fit_layers({"": x[train]}, y[train], {"": x[test]}, y[test])[""]
    pixels = [found.metric("pixels_accuracy"), found.metric("pixels_few_shot_accuracy")]
    assert pixels == [expected.all.accuracy, expected.few_shot]

    axes = probes.draw(found, ["v"])[0].figure.axes
    for axis, kind, accuracy in zip(axes, ("accuracy", "few_shot"), pixels, strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert lines["raw pixels, no network"].get_ydata()[0] == accuracy
        assert "untrained, mean over places" in lines
        dotted = [line.get_ydata() for line in axis.get_lines() if line.get_linestyle() == ":"]
        assert any(np.array_equal(y, values(found, kind, "v untrained")[:, 1]) for y in dotted)


def test_large_images_are_averaged_and_said_so(make_model, digit_images):
    images, labels = (part[:40] for part in digit_images)
    large = images.repeat(4, axis=1).repeat(3, axis=2)  # 64 × 48
    features = pixel_features(large)
    assert features.shape == (40, 3 * 32 * 32)
    halves = large.astype(float).reshape(40, 32, 2, 48, 3).mean(axis=2) / 255
    assert features.mean() == pytest.approx(halves.mean(), abs=0.01)
    assert np.allclose(pixel_features(images).reshape(40, 3, 16, 16)[:, 0], images[..., 0] / 255)
    tall = pixel_features(large[:, :, :32]).reshape(40, 3, 32, 32)
    assert np.allclose(tall.transpose(0, 2, 3, 1), halves[:, :, :32])
    result = run([make_model("vit", "v", image_size=48)], large, labels % 3).results["probes"]
    assert "raw pixels: images of 64 × 48 are averaged to 32 × 32" in result.notes


def test_constant_images_have_no_pixel_baseline(make_model):
    images = np.full((40, 16, 16, 3), 7, np.uint8)
    result = run([make_model("vit", "v")], images, np.arange(40) % 2).results["probes"]
    assert "raw pixels: no probe, since features are constant" in result.notes
    assert not any("pixels" in metric.measure for metric in result.metrics)
    probes.draw(result, ["v"])
