"""The claims before training, against what a comparison of untrained networks finds."""

import dataclasses
import json

import numpy as np
import pytest

from zoo.analyses.engine import compare_models
from zoo.claims import judge
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


def test_before_training_it_is_the_same_test(networks, judged, digit_images):
    v, _, c, _ = networks
    expected = study([start(v), start(c)], *digit_images, references=False)
    for key in (("R-uniform", ("v", "c")), ("R-skip-cls", ("v",)), ("R-skip-cnn", ("v", "c"))):
        verdict, before = judged[key], judged[key].before
        assert before.estimate == pytest.approx(expected[key].measurement.estimate, rel=1e-4)
        assert before.value != pytest.approx(verdict.value, rel=1e-3)
        assert verdict.change[0] == pytest.approx(verdict.value - before.value)
        assert verdict.change[1] < verdict.change[0] < verdict.change[2]


def test_no_data_takes_the_place_of_less_and_more_stays_trained(networks, judged, digit_images):
    v, w, c, d = networks
    expected = study([start(v), w, start(c), d], *digit_images, references=False)
    for key in (("Z-far", ("v", "w", "c", "d")), ("R-low-agree", ("v", "w"))):
        assert judged[key].before.value == pytest.approx(expected[key].value, rel=1e-6)


def test_two_untrained_networks_support_nothing(networks, digit_images):
    # As registered models whose start is known, and as modules of which nothing is known.
    v, _, c, _ = networks
    untrained = [start(v), start(c)]
    bare = [
        describe_module(m.module, name=m.name, image_size=16, class_names=v.spec.class_names)
        for m in untrained
    ]
    for models in (untrained, bare):
        tested = [found for found in study(models, *digit_images).values() if found.measurement]
        assert len(tested) >= 5
        assert "supported" not in {found.verdict for found in tested}
    changed = [found for found in study(untrained, *digit_images).values() if found.change]
    assert changed
    for found in changed:
        moved, low, high = found.change
        if found.measurement.by_steps:  # a head by the bound may be on either side in each network
            assert moved == 0
            assert low <= 0 <= high
        else:
            assert (moved, low, high) == pytest.approx((0, 0, 0), abs=1e-6)


def test_what_was_before_does_not_depend_on_the_order_of_the_models(networks, digit_images):
    v = networks[0]
    unknown = dataclasses.replace(
        v, name="u", spec=dataclasses.replace(v.spec, class_names=[], subset="", subset_digest="")
    )
    for models in ([v, unknown], [unknown, v]):
        found = study(models, *digit_images)
        assert found["R-skip-cls", ("v",)].before is not None
        assert found["R-skip-cls", ("u",)].before is None


def test_report_json_holds_what_was_before_training_and_the_change(judged):
    for key in (("Z-accuracy", ("v", "c")), ("R-uniform", ("v", "c"))):
        entry = judged[key].as_dict()
        assert set(entry["before"]) == {"value", "low", "high", "counted", "detail"}
        assert set(entry["change"]) == {"value", "low", "high"}
        assert json.loads(json.dumps(entry)) == entry


def test_without_references_nothing_is_known_of_before(networks, digit_images):
    found = study(networks[:1], *digit_images, references=False)
    assert found["R-skip-cls", ("v",)].value is not None
    assert all(verdict.before is None for verdict in found.values())


def test_a_network_whose_start_is_not_known_has_none(networks, digit_images):
    v = networks[0]
    wrapped = describe_module(
        networks[2].module, name="r", image_size=16, class_names=v.spec.class_names
    )
    found = study([v, wrapped], *digit_images)
    assert found["R-uniform", ("v", "r")].value is not None
    assert found["R-uniform", ("v", "r")].before is None
    assert found["R-skip-cls", ("v",)].before is not None


def test_the_images_are_only_read(networks, digit_images):
    images, labels = digit_images
    kept = np.array(images)
    study(networks[:1], images, labels)
    assert (images == kept).all()
