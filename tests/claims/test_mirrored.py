"""Claims when the models change places, and when their images no longer correspond."""

import dataclasses

import numpy as np
import pytest

from zoo.analyses import ANALYSES, ON_REQUEST
from zoo.analyses.engine import compare_models
from zoo.claims import CLAIMS, judge
from zoo.config import Settings

ONLY = sorted({claim.analysis for claim in CLAIMS} & set(ANALYSES) - set(ON_REQUEST))
CLASSES = tuple("0123456789")
ALIKE = ("R-lower-half", "R-top", "R-low-agree", "Z-far")  # about layers of two networks


@pytest.fixture(scope="module")
def trained(make_model):
    """A ViT and a ResNet-18 on less and on more data, with weights that are not their start's."""

    def make(arch, name, subset, count):
        model = make_model(arch, name, seed=7)
        known = {"subset": subset, "subset_digest": subset, "subset_count": count}
        spec = dataclasses.replace(model.spec, seed=1, parameters=1000, **known)
        return dataclasses.replace(model, spec=spec)

    return [
        make("vit", "v", "small", 10), make("vit", "w", "full", 20),
        make("resnet18", "c", "small", 10), make("resnet18", "d", "full", 20),
    ]  # fmt: skip


def test_models_in_the_other_order_have_mirrored_numbers_and_the_same_verdicts(
    trained, digit_images
):
    images, labels = (array[:40] for array in digit_images)
    small = trained[0], trained[2]
    settings = Settings(batch_size=20, shown_images=2)
    found, turned = (
        compare_models(
            models, images, labels, class_names=CLASSES, only=ONLY, settings=settings
        )
        for models in (small, small[::-1])
    )  # fmt: skip
    verdicts = {(v.claim.id, frozenset(v.models)): v for v in judge(turned)}
    tested = [v for v in judge(found) if v.measurement]
    assert len(tested) > 10
    for one in tested:
        other = verdicts[one.claim.id, frozenset(one.models)]
        assert (one.verdict, one.reason) == (other.verdict, other.reason), one.claim.id
        expected = pytest.approx(other.measurement.estimate, rel=1e-4, abs=1e-6, nan_ok=True)
        assert one.measurement.estimate == expected, one.claim.id
    signed = [
        (analysis, metric)
        for analysis, result in found.results.items()
        for metric in result.metrics
        if metric.pair == "signed"
    ]
    assert signed
    for analysis, metric in signed:
        (other,) = [
            m for m in turned.results[analysis].metrics
            if (m.measure, m.network, m.network_b) == (metric.measure, metric.network_b,
                                                       metric.network)
        ]  # fmt: skip
        mirrored = -metric.value, -metric.high, -metric.low
        expected = pytest.approx(mirrored, rel=1e-4, abs=1e-6, nan_ok=True)
        assert (other.value, other.low, other.high) == expected


def shuffle(model, order):
    """Let a network see so many images in another order, but not the one it is tried on."""

    def permute(_, args):
        return (args[0][order],) if len(args[0]) == len(order) else args

    return model.module.register_forward_pre_hook(permute)


@pytest.mark.parametrize("seed", range(2))
def test_where_images_do_not_correspond_no_claim_on_alike_layers_holds(trained, digit_images, seed):
    random = np.random.default_rng(seed)
    # Those on less data see other images than the rest.
    handles = [shuffle(model, random.permutation(60)) for model in (trained[0], trained[2])]
    try:
        found = compare_models(
            trained, digit_images[0], only=["cka"],
            settings=Settings(batch_size=60, references=False),
        )  # fmt: skip
    finally:
        for handle in handles:
            handle.remove()
    tested = {v.claim.id: v for v in judge(found) if v.claim.id in ALIKE and v.models != ("w", "d")}
    assert set(tested) == set(ALIKE)
    # Nothing is most alike: a best match among unrelated layers lies somewhere as well.
    for claim in ("R-lower-half", "R-top"):
        assert tested[claim].verdict == "not applicable"
        assert "no better matched in" in tested[claim].detail
    holds = [v for v in tested.values() if v.measurement and v.claim.threshold.holds(v.value)]
    assert all(v.p_holm >= 0.05 for v in holds), [(v.claim.id, v.value, v.p_holm) for v in holds]
    result = found.results["cka"]
    for a, b in (("v", "w"), ("c", "d"), ("v", "c"), ("v", "d")):
        assert abs(result.metric("mean_all_pairs", a, b)) < 0.1
