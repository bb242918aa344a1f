import numpy as np
import pytest

from tests.claims.made import CNN, LESS_AND_MORE, VIT, metrics, network, verdicts
from zoo.measures.intervals import independent_difference, paired_difference


def accuracy(**changed):
    """A result that holds differences of accuracy: value, low, high."""
    return metrics(difference={tuple(pair.split("__")): ends for pair, ends in changed.items()})


@pytest.mark.parametrize(("low", "verdict"), [(0.01, "supported"), (-0.01, "not supported")])
def test_a_better_cnn_must_be_better_than_chance(low, verdict):
    result = accuracy(c__v=[0.2, low, 0.3])
    found = verdicts([VIT, CNN], accuracy=result)["Z-accuracy", ("v", "c")]
    assert (found.verdict, found.value, found.n) == (verdict, 0.2, 50)


def test_the_sign_does_not_depend_on_the_order_of_the_models():
    found = verdicts([VIT, CNN], accuracy=accuracy(v__c=[-0.2, -0.3, -0.1]))
    assert found["Z-accuracy", ("v", "c")].value == pytest.approx(0.2)
    assert found["Z-accuracy", ("v", "c")].verdict == "supported"
    assert "interval +0.100 to +0.300" in found["Z-accuracy", ("v", "c")].detail


def test_models_of_other_data_are_not_held_against_each_other():
    result = accuracy(c__v=[0.2, 0.1, 0.3])
    found = verdicts([VIT, network("c", "cnn", subset="t")], accuracy=result)
    assert found["Z-accuracy", ()].verdict == "not applicable"
    assert found["Z-accuracy", ()].detail.startswith("needs a ViT and a CNN that were trained")


def test_a_network_of_another_size_is_not_held_against_another():
    small = network("c", "cnn", parameters=4 * 10**6)
    found = verdicts([VIT, small], accuracy=accuracy(c__v=[0.2, 0.1, 0.3]))["Z-accuracy", ()]
    assert found.verdict == "not applicable"


@pytest.mark.parametrize(
    ("more", "verdict"), [(0.05, "supported"), (0.15, "not supported"), (0.25, "not supported")]
)
def test_the_gap_narrows_by_more_than_chance_or_does_not(more, verdict):
    result = accuracy(c__v=[0.2, 0.15, 0.25], d__w=[more, more - 0.05, more + 0.05])
    found = verdicts(LESS_AND_MORE, accuracy=result)["Z-gap", ("v", "w", "c", "d")]
    assert found.verdict == verdict
    assert found.value == pytest.approx(0.2 - more)


def test_a_gap_that_does_not_change_is_seldom_found_to_narrow():
    # Four networks that are right on 90 % of 359 images, by chance.
    random = np.random.default_rng(0)
    narrows = 0
    for _ in range(300):
        right = random.random((4, 359)) < 0.9
        gaps = [paired_difference(right[i], right[j]) for i, j in ((0, 1), (2, 3))]
        narrows += independent_difference(*gaps)[1] > 0
    assert narrows / 300 < 0.05


WHOLE, WITHOUT = network("v", "vit"), network("n", "vit", arch="vit-noskip2")


@pytest.mark.parametrize(("low", "verdict"), [(0.01, "supported"), (-0.01, "not supported")])
def test_a_middle_blocks_skips_cost_accuracy_or_do_not(low, verdict):
    result = accuracy(v__n=[0.04, low, 0.07])
    found = verdicts([WITHOUT, WHOLE], accuracy=result)["R-noskip-cost", ("n", "v")]
    assert (found.verdict, found.value) == (verdict, 0.04)


def test_skips_are_weighed_against_the_same_network_on_the_same_images():
    for other in (
        network("v", "vit", subset="t"),
        network("v", "vit", arch="vit-gap"),
        network("v", "vit", subset=""),
    ):
        found = verdicts([WITHOUT, other], accuracy=accuracy())["R-noskip-cost", ()]
        assert found.verdict == "not applicable"
