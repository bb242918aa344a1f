"""What linear probes are read against: raw pixels, and the network before training."""

import numpy as np
import pytest

from zoo.analyses import probes
from zoo.analyses.engine import compare_models
from zoo.analyses.probed_layers import pixel_features
from zoo.config import Settings
from zoo.data.sampling import stratified_split
from zoo.data.subsets import load_subset
from zoo.measures.ridge import fit_layers
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
    for kind in ("all", "few"):
        drawn = found.arrays[f"untrained_{kind}/v"].values
        assert np.array_equal(drawn, untrained.arrays[f"{kind}/v"].values[:, 1])
        assert not np.array_equal(drawn, found.arrays[f"{kind}/v"].values[:, 1])
        assert f"untrained_{kind}/v" not in untrained.arrays
    middle, last = (found.arrays["untrained_all/v"].values[i] for i in (1, 2))
    assert found.metrics["probes/v/untrained_middle_accuracy"] == middle
    assert found.metrics["probes/v/untrained_last_block_mean_accuracy"] == last

    chosen = choose_images(len(images), 150, seed=0)
    x, y = images[chosen].reshape(150, -1) / np.float32(255), labels[chosen]
    train, test = stratified_split(y, 0.5, seed=0)
    expected = fit_layers({"": x[train]}, y[train], {"": x[test]}, y[test])[""]
    pixels = found.arrays["pixels"].values
    assert pixels.tolist() == [expected.all.accuracy, expected.few_shot]
    assert found.metrics["probes/pixels_accuracy"] == pixels[0]
    assert found.metrics["probes/pixels_few_shot_accuracy"] == pixels[1]

    axes = probes.draw(found)["probes-layers"].axes
    for axis, kind, accuracy in zip(axes, ("all", "few"), pixels, strict=True):
        lines = {line.get_label(): line for line in axis.get_lines()}
        assert lines["raw pixels, no network"].get_ydata()[0] == accuracy
        assert "untrained, mean over places" in lines
        dotted = [line.get_ydata() for line in axis.get_lines() if line.get_linestyle() == ":"]
        assert any(np.array_equal(y, found.arrays[f"untrained_{kind}/v"].values) for y in dotted)


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
    assert not any("pixels" in name for name in (*result.metrics, *result.arrays))
    probes.draw(result)
