"""The claims before training, against what a comparison of untrained networks finds."""

import dataclasses
import json

import numpy as np
import pytest

from zoo.analyses.engine import compare_models
from zoo.claims import CLAIMS, judge
from zoo.claims.base import Measurement, Verdict
from zoo.config import Settings
from zoo.models.files import LoadedModel, describe_module
from zoo.models.untrained import untrained_network

SETTINGS = Settings(batch_size=20, shown_images=2)
ONLY = ["accuracy", "cka", "residuals"]


def study(models, images, labels, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    names = [str(i) for i in range(10)]
    found = compare_models(models, images, labels, class_names=names, only=ONLY, settings=settings)
    return {(v.claim.id, v.models): v for v in judge(found)}


@pytest.fixture(scope="module")
def networks(make_model):
    """A ViT and a ResNet-18 on less and on more data, with weights that are not their start's."""

    def trained(arch, name, subset, count):
        model = make_model(arch, name, seed=7)
        spec = dataclasses.replace(
            model.spec, seed=1, subset=subset, subset_digest=subset, subset_count=count,
            parameters=1000,
        )  # fmt: skip
        return dataclasses.replace(model, spec=spec)

    return [
        trained("vit", "v", "small", 10), trained("vit", "w", "full", 20),
        trained("resnet18", "c", "small", 10), trained("resnet18", "d", "full", 20),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def judged(networks, digit_images):
    return study(networks, *digit_images)


def start(model):
    """A network before training, under the trained one's name."""
    return LoadedModel(model.name, untrained_network(model.spec, 1).module, model.spec)


def test_the_floor_is_the_same_test_of_the_networks_before_training(networks, judged, digit_images):
    v, _, c, _ = networks
    expected = study([start(v), start(c)], *digit_images, references=False)
    for key in (("R-uniform", ("v", "c")), ("R-skip-cls", ("v",)), ("R-skip-cnn", ("v", "c"))):
        verdict, floor = judged[key], judged[key].untrained
        assert floor.value == pytest.approx(expected[key].value, rel=1e-6)
        assert floor.holds == (expected[key].verdict == "supported")
        assert floor.value != pytest.approx(verdict.value, rel=1e-3)


def test_no_data_takes_the_place_of_less_and_more_stays_trained(networks, judged, digit_images):
    v, w, c, d = networks
    expected = study([start(v), w, start(c), d], *digit_images, references=False)
    for key in (("Z-far", ("v", "w", "c", "d")), ("R-low-agree", ("v", "w"))):
        assert judged[key].untrained.value == pytest.approx(expected[key].value, rel=1e-6)


@pytest.mark.parametrize(
    ("verdict", "holds", "learnt"),
    [
        ("supported", True, False),
        ("supported", False, True),
        ("supported", None, None),
        ("not supported", True, None),
    ],
)
def test_what_is_supported_before_training_was_not_learnt(verdict, holds, learnt):
    floor = None if holds is None else Measurement(0.5, holds, "")
    assert Verdict(CLAIMS[0], ("v",), 0.5, 50, verdict, "", floor).learnt is learnt


def test_a_floor_does_not_depend_on_the_order_of_the_models(networks, digit_images):
    v = networks[0]
    unknown = dataclasses.replace(
        v, name="u", spec=dataclasses.replace(v.spec, class_names=[], subset="", subset_digest="")
    )
    for models in ([v, unknown], [unknown, v]):
        found = study(models, *digit_images)
        assert found["R-skip-cls", ("v",)].untrained is not None
        assert found["R-skip-cls", ("u",)].untrained is None


def test_accuracy_has_no_floor_and_report_json_holds_the_others(judged):
    assert judged["Z-accuracy", ("v", "c")].value is not None
    assert judged["Z-accuracy", ("v", "c")].untrained is None
    entry = judged["R-uniform", ("v", "c")].as_dict()
    assert set(entry["untrained"]) == {"value", "verdict", "detail"}
    assert json.loads(json.dumps(entry)) == entry


def test_without_references_there_is_no_floor(networks, digit_images):
    found = study(networks[:1], *digit_images, references=False)
    assert found["R-skip-cls", ("v",)].value is not None
    assert all(verdict.untrained is None for verdict in found.values())


def test_a_network_whose_start_is_not_known_has_no_floor(networks, digit_images):
    v = networks[0]
    wrapped = describe_module(
        networks[2].module, name="r", image_size=16, class_names=v.spec.class_names
    )
    found = study([v, wrapped], *digit_images)
    assert found["R-uniform", ("v", "r")].value is not None
    assert found["R-uniform", ("v", "r")].untrained is None
    assert found["R-skip-cls", ("v",)].untrained is not None


def test_the_images_are_only_read(networks, digit_images):
    images, labels = digit_images
    kept = np.array(images)
    study(networks[:1], images, labels)
    assert (images == kept).all()
