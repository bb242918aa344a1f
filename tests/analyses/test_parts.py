"""Accumulators that each saw a part of the images find together what one finds that saw all."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from zoo.analyses import choose_analyses, load_analysis
from zoo.analyses.engine import result_of
from zoo.config import Settings
from zoo.measures.replicates import GroupedMean
from zoo.study.one_pass import run_pass
from zoo.study.prepare import prepare_study

PARTS = 3
OWN_PASSES_ALONE = {"receptive-field", "ablation", "grad-cam"}  # nothing of the common pass


@pytest.fixture(scope="module")
def study(make_model, digits_folder):
    from zoo.data.subsets import load_subset

    test = load_subset(digits_folder / "test")
    models = [
        make_model("vit", "v", seed=0),
        make_model("vit", "w", seed=1),
        make_model("resnet18", "r"),
    ]
    classes = models[0].spec.class_names
    settings = Settings(batch_size=9)
    images, labels = np.array(test.images[:61]), np.array(test.labels[:61])
    return prepare_study(models, images, labels, classes, (), settings, torch.device("cpu"))


@pytest.fixture(scope="module")
def found(study):
    """What every analysis finds on all images, and what it finds on them in parts."""
    names = choose_analyses()
    whole, *parts = (
        {name: load_analysis(name).start(study) for name in names} for _ in range(1 + PARTS)
    )
    run_pass(study, list(whole.values()))
    for i, part in enumerate(parts):
        run_pass(study, list(part.values()), part=(i, PARTS))
    merged = parts[-1]
    for name in names:
        merged[name].take([part[name].state() for part in parts])
    return whole, merged


@pytest.mark.parametrize("name", choose_analyses())
def test_parts_give_the_whole(found, name):
    assert bool(found[0][name].gathers) is (name not in OWN_PASSES_ALONE)
    if name in OWN_PASSES_ALONE:
        return
    one, other = (result_of(of[name], load_analysis(name).ABOUT) for of in found)
    near = {"rtol": 1e-9, "atol": 1e-9}
    xr.testing.assert_allclose(one.data, other.data, **near)
    assert one.data.attrs == other.data.attrs
    assert [p.network + p.layer + p.network_b for p in one.parts] == [
        p.network + p.layer + p.network_b for p in other.parts
    ]
    for a, b in zip(one.parts, other.parts, strict=True):
        xr.testing.assert_allclose(a.data, b.data, **near)
    assert one.notes == other.notes
    assert len(one.metrics) == len(other.metrics)
    for a, b in zip(one.metrics, other.metrics, strict=True):
        assert (a.measure, a.network, a.network_b) == (b.measure, b.network, b.network_b)
        for ours, theirs in ((a.value, b.value), (a.low, b.low), (a.high, b.high)):
            both_unknown = math.isnan(ours) and math.isnan(theirs)
            assert both_unknown or math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def test_more_parts_than_batches_are_possible(study):
    parts = [load_analysis("cka").start(study) for _ in range(20)]
    for i, part in enumerate(parts):
        run_pass(study, [part], part=(i, len(parts)))
    assert sum(part.batches for part in parts) == 7
    parts[0].take([part.state() for part in parts])
    assert parts[0].batches == 7


def test_a_mean_over_parts_has_the_groups_of_the_whole():
    values = np.random.default_rng(0).normal(size=(23, 2))
    values[3, 1] = np.nan
    whole, first, second = GroupedMean(5), GroupedMean(5), GroupedMean(5)
    whole.add(values)
    first.add(values[:7])
    second.add(values[7:])
    first.merge(GroupedMean(5))
    first.merge(second)
    np.testing.assert_allclose(first.result().whole, whole.result().whole, rtol=1e-12)
    np.testing.assert_allclose(first.result().without, whole.result().without, rtol=1e-12)
    assert first.images == 23
