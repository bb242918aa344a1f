import pytest

from tests.claims.made import CNN, LESS_AND_MORE, VIT, metrics, subject, verdicts


def accuracy(**changed):
    names = {
        "accuracy/c__v/difference": 0.2,
        "accuracy/c__v/difference_low": 0.1,
        "accuracy/c__v/difference_high": 0.3,
    }
    return metrics(names | changed)


@pytest.mark.parametrize(("low", "verdict"), [(0.01, "supported"), (-0.01, "not supported")])
def test_a_better_cnn_must_be_better_than_chance(low, verdict):
    result = accuracy(**{"accuracy/c__v/difference_low": low})
    found = verdicts([VIT, CNN], accuracy=result)["Z-accuracy", ("v", "c")]
    assert (found.verdict, found.value, found.n) == (verdict, 0.2, 50)


def test_the_sign_does_not_depend_on_the_order_of_the_models():
    swapped = {
        "accuracy/v__c/difference": -0.2,
        "accuracy/v__c/difference_low": -0.3,
        "accuracy/v__c/difference_high": -0.1,
    }
    found = verdicts([VIT, CNN], accuracy=metrics(swapped))
    assert found["Z-accuracy", ("v", "c")].value == pytest.approx(0.2)
    assert found["Z-accuracy", ("v", "c")].verdict == "supported"


def test_models_of_other_data_are_not_held_against_each_other():
    found = verdicts([VIT, subject("c", "cnn", subset="t")], accuracy=accuracy())
    assert found["Z-accuracy", ()].verdict == "not applicable"
    assert found["Z-accuracy", ()].detail.startswith("needs a ViT and a CNN that were trained")


@pytest.mark.parametrize(("more", "verdict"), [(0.05, "supported"), (0.25, "not supported")])
def test_the_gap_narrows_or_does_not(more, verdict):
    ends = {"accuracy/d__w/difference": more} | {
        f"accuracy/d__w/difference_{end}": more for end in ("low", "high")
    }
    found = verdicts(LESS_AND_MORE, accuracy=accuracy(**ends))["Z-gap", ("v", "w", "c", "d")]
    assert found.verdict == verdict
    assert found.value == pytest.approx(0.2 - more)


WHOLE, WITHOUT = subject("v", "vit"), subject("n", "vit", arch="vit-noskip2")


@pytest.mark.parametrize(("low", "verdict"), [(0.01, "supported"), (-0.01, "not supported")])
def test_a_middle_blocks_skips_cost_accuracy_or_do_not(low, verdict):
    ends = {"": 0.04, "_low": low, "_high": 0.07}
    result = metrics({f"accuracy/v__n/difference{end}": value for end, value in ends.items()})
    found = verdicts([WITHOUT, WHOLE], accuracy=result)["R-noskip-cost", ("n", "v")]
    assert (found.verdict, found.value) == (verdict, 0.04)


def test_skips_are_weighed_against_the_same_network_on_the_same_images():
    for other in (
        subject("v", "vit", subset="t"),
        subject("v", "vit", arch="vit-gap"),
        subject("v", "vit", subset=""),
    ):
        found = verdicts([WITHOUT, other], accuracy=metrics({}))["R-noskip-cost", ()]
        assert found.verdict == "not applicable"
