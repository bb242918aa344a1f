"""Networks before training are measured beside the compared ones, each as if it were alone."""

import numpy as np
import pytest
import torch

from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.models.untrained import before_training
from zoo.study.axes import select
from zoo.study.results import INITIAL

CLASSES = [str(i) for i in range(10)]
NAMES = ("v untrained", "c untrained")
# What is measured of compared networks alone: trained weights are what they are about.
TRAINED_ONLY = {"similarity", "feature-maps", "ablation", "grad-cam"}
BETWEEN = {"map_correlation", "map_correlation_permuted_images"}  # of maps: compared ones only


@pytest.fixture(scope="module")
def both(make_model, digit_images):
    images, labels = (part[:40] for part in digit_images)
    models = [make_model("vit", "v"), make_model("resnet18", "c")]
    initial = [before_training(model) for model in models]
    torch.manual_seed(9)
    with torch.no_grad():
        for model in models:
            for parameter in model.module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))

    def compare(networks, **known):
        made = Settings(batch_size=20, shown_images=2, **known)
        return compare_models(networks, images, labels, class_names=CLASSES, settings=made)

    return compare(models), compare(initial, references=False)


def test_they_stand_behind_the_compared_and_no_note_is_about_them(both):
    found, _ = both
    assert [network.name for network in found.networks] == ["v", "c", *NAMES]
    assert [network.name for network in found.compared] == ["v", "c"]
    assert tuple(n.name for n in found.networks if n.state == INITIAL) == NAMES
    assert [found.initial(network).name for network in found.compared] == list(NAMES)
    notes = [note for result in found.results.values() for note in result.notes]
    assert not any("untrained" in note for note in notes)


def test_their_numbers_are_those_of_the_same_networks_compared_alone(both):
    found, alone = both
    seen = set()
    for analysis, result in found.results.items():
        reference = alone.results[analysis]
        for key, values in result.data.data_vars.items():
            if "network" not in values.coords or "network_b" in values.coords:
                continue
            if "matched" in values.coords:  # best matches are those of compared networks
                continue
            for name in NAMES:
                own, expected = select(values, name), select(reference.data[key], name)
                if own.size:
                    seen.add((analysis, name))
                    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-7, err_msg=key)
    attending = {"attention-distance", "attention-maps"}
    everywhere = {"residuals", "receptive-field"}
    assert seen >= {(a, "v untrained") for a in attending | everywhere}
    assert seen >= {(a, "c untrained") for a in everywhere}
    assert not {analysis for analysis, _ in seen} & TRAINED_ONLY


def test_cka_of_two_of_them_is_that_of_the_two_compared_alone(both):
    found, alone = both
    for a in NAMES:
        for b in NAMES:
            own = select(found.results["cka"].data["cka"], a, b)
            expected = select(alone.results["cka"].data["cka"], a, b)
            assert own.size
            np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-7)


def test_their_metrics_are_those_of_the_same_networks_compared_alone(both):
    found, alone = both
    seen = set()
    for analysis, result in found.results.items():
        for metric in result.metrics:
            of = (metric.network, metric.network_b)
            if metric.network in NAMES and of[1] in (*NAMES, ""):
                expected = alone.results[analysis].metric(metric.measure, *of)
                assert metric.value == pytest.approx(expected, rel=1e-5, abs=1e-7), metric
                seen.add((analysis, metric.measure, *of))
    wanted = {
        (analysis, metric.measure, metric.network, metric.network_b)
        for analysis in ("attention-distance", "attention-maps", "local-heads", "localisation",
                         "probes", "receptive-field", "residuals")
        for metric in alone.results[analysis].metrics
        if metric.network and metric.measure not in BETWEEN
    }  # fmt: skip
    assert seen >= wanted
    assert not {analysis for analysis, *_ in seen} & TRAINED_ONLY
