"""What analyses say of themselves fits what they do."""

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch

from tests.conftest import TINY_RESNET, TINY_VIT
from zoo.analyses import ANALYSES, load_analysis
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.models.build import build
from zoo.models.files import describe_module

OTHER = {
    "show": "classes",
    "batch_size": 5,
    "layers": "all",
    "pool": "gap",
    "shown_images": 3,
    "references": True,
    "seed": 1,
}


@cache
def compared(**changes):
    """Compare a small ViT and a small CNN on sixteen images, with some settings changed."""
    torch.manual_seed(0)
    nets = {
        "vit": build("vit", classes=4, image_size=16, **TINY_VIT),
        "cnn": build("resnet18", classes=4, image_size=16, **TINY_RESNET),
    }
    models = [
        describe_module(net, name=name, image_size=16, class_names=list("abcd"))
        for name, net in nets.items()
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    known = {"batch_size": 8, "shown_images": 2, "references": False} | changes
    return compare_models(
        models, pixels, np.arange(16) % 4, class_names=list("abcd"), settings=Settings(**known)
    )


def numbers(found, name):
    """Return what an analysis says of the two networks: its numbers, and how many maps it has."""
    result, own = found.results[name], {network.name for network in found.compared}
    metrics = {
        (metric.measure, metric.network, metric.network_b): metric.value
        for metric in result.metrics
        if {metric.network, metric.network_b or metric.network} <= own
    }
    maps = sorted(
        (part.network, part.layer, *sorted(part.data.sizes.items()))
        for part in result.parts
        if part.network in own
    )
    return metrics, maps


@pytest.mark.slow
@pytest.mark.parametrize("setting", OTHER)
def test_an_analysis_names_the_settings_that_change_its_numbers(setting: str):
    assert set(OTHER) == {field.name for field in dataclasses.fields(Settings)}
    before, after = compared(), compared(**{setting: OTHER[setting]})
    for name in before.results.keys() & after.results.keys():
        (metrics, maps), (changed, others) = numbers(before, name), numbers(after, name)
        if setting not in load_analysis(name).ABOUT.settings:
            # Batches of another size round otherwise.
            assert changed == pytest.approx(metrics, rel=1e-3, abs=1e-4, nan_ok=True), name
            assert others == maps, name


def test_every_metric_is_described_and_carries_its_unit():
    found = compared()
    for name, result in found.results.items():
        about = load_analysis(name).ABOUT
        assert {metric.measure for metric in result.metrics} <= about.metrics.keys(), name
        assert about.units.keys() <= about.metrics.keys(), name
        for metric in result.metrics:
            ends = [end for end in (metric.low, metric.high) if math.isfinite(end)]
            low, high = metric.range
            assert all(low <= end <= high for end in (metric.value, *ends)), metric
    units = {(row.analysis, row.measure): row.unit for row in found.to_frame().itertuples()}
    assert units["attention-distance", "uniform"] == "pixels"
    assert units["accuracy", "accuracy"] == ""


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_has_captions_that_differ(name: str):
    about = load_analysis(name).ABOUT
    assert about.captions
    assert len(set(about.captions.values())) == len(about.captions)
    assert all(key.startswith(name) for key in about.captions)
