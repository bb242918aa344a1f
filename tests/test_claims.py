"""Each claim against results written by hand: it holds where it should and only there."""

from types import SimpleNamespace

import numpy as np
import pytest

from zoo.analyses.base import Array, Result
from zoo.claims import CLAIMS, judge

LAYERS = ("stem", "b0", "b1", "b2", "b3", "b4", "head")
ROLES = dict(zip(LAYERS, ["stem", *["block"] * 5, "head"], strict=True))


class Roles(dict):
    def __getitem__(self, name):
        return SimpleNamespace(role=super().__getitem__(name))


def subject(name, family, subset="s", count=100):
    spec = SimpleNamespace(
        arch=family, source="digits", subset=subset, subset_digest=subset, subset_count=count
    )
    return SimpleNamespace(
        name=name, family=family, role="model", layers=LAYERS, trace=Roles(ROLES),
        model=SimpleNamespace(spec=spec),
    )  # fmt: skip


def verdicts(models, **results):
    study = SimpleNamespace(models=tuple(models), images=np.zeros((50, 1)))
    named = {name.replace("_", "-"): result for name, result in results.items()}
    findings = SimpleNamespace(study=study, results=named, not_applicable={})
    return {(v.claim.id, v.models): v for v in judge(findings)}


VIT, CNN = subject("v", "vit"), subject("c", "cnn")


def accuracy(**metrics):
    names = {
        "accuracy/c__v/difference": 0.2,
        "accuracy/c__v/difference_low": 0.1,
        "accuracy/c__v/difference_high": 0.3,
    }
    return Result(("v", "c"), {}, names | metrics)


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
    found = verdicts([VIT, CNN], accuracy=Result(("v", "c"), {}, swapped))
    assert found["Z-accuracy", ("v", "c")].value == pytest.approx(0.2)
    assert found["Z-accuracy", ("v", "c")].verdict == "supported"


def test_models_of_other_data_are_not_held_against_each_other():
    found = verdicts([VIT, subject("c", "cnn", subset="t")], accuracy=accuracy())
    assert found["Z-accuracy", ()].verdict == "not applicable"
    assert found["Z-accuracy", ()].detail.startswith("needs a ViT and a CNN that were trained")


FOUR = [
    VIT, subject("w", "vit", "t", 400), CNN, subject("d", "cnn", "t", 400)
]  # fmt: skip


@pytest.mark.parametrize(("more", "verdict"), [(0.05, "supported"), (0.25, "not supported")])
def test_the_gap_narrows_or_does_not(more, verdict):
    ends = {"accuracy/d__w/difference": more} | {
        f"accuracy/d__w/difference_{end}": more for end in ("low", "high")
    }
    found = verdicts(FOUR, accuracy=accuracy(**ends))["Z-gap", ("v", "w", "c", "d")]
    assert found.verdict == verdict
    assert found.value == pytest.approx(0.2 - more)


@pytest.mark.parametrize(("vit", "verdict"), [(0.8, "supported"), (0.4, "not supported")])
def test_a_vits_layers_are_more_alike_or_not(vit, verdict):
    metrics = {"cka/v/off_diagonal_mean": vit, "cka/c/off_diagonal_mean": 0.5}
    metrics |= {"cka/v/first_last_quarter": vit, "cka/c/first_last_quarter": 0.5}
    found = verdicts([VIT, CNN], cka=Result(("v", "c"), {}, metrics))
    assert found["R-uniform", ("v", "c")].verdict == verdict
    assert found["R-ends", ("v", "c")].value == pytest.approx(vit - 0.5)


def across(values):
    return Result(("v", "c"), {"cka/v__c": Array(np.asarray(values, float), ("a", "b"))})


def test_where_a_cnns_lower_half_finds_its_match():
    low = np.full((7, 7), 0.1)
    low[0, :6] = 0.9
    found = verdicts([VIT, CNN], cka=across(low))
    assert found["R-lower-half", ("v", "c")].verdict == "supported"
    assert found["R-top", ("v", "c")].verdict == "supported"
    assert found["R-top", ("v", "c")].value == pytest.approx(0.1 / 0.5)
    high = np.full((7, 7), 0.1)
    high[5, :6] = 0.9
    found = verdicts([VIT, CNN], cka=across(high))
    assert found["R-lower-half", ("v", "c")].verdict == "not supported"
    assert found["R-top", ("v", "c")].verdict == "not supported"


def test_cells_that_could_not_be_measured_give_no_verdict():
    values = np.full((7, 7), 0.5)
    values[2, 3] = np.nan
    found = verdicts([VIT, CNN], cka=across(values))["R-top", ("v", "c")]
    assert (found.verdict, found.value) == ("not applicable", None)


@pytest.mark.parametrize(("vit", "verdict"), [(0.3, "supported"), (0.9, "not supported")])
def test_a_vit_on_little_data_is_farther_off_or_not(vit, verdict):
    arrays = {
        "cka/v__w": Array(np.eye(7) * vit, ("a", "b")),
        "cka/c__d": Array(np.eye(7) * 0.6, ("a", "b")),
    }
    found = verdicts(FOUR, cka=Result(("v", "w", "c", "d"), arrays))
    assert found["Z-far", ("v", "w", "c", "d")].verdict == verdict
    assert found["Z-far", ("v", "w", "c", "d")].value == pytest.approx(vit - 0.6)


@pytest.mark.parametrize(("more", "verdict"), [(0.5, "supported"), (0.9, "not supported")])
def test_attention_settles_or_does_not(more, verdict):
    metrics = {"attention-maps/v/entropy": 0.8, "attention-maps/w/entropy": more}
    found = verdicts(FOUR[:2], attention_maps=Result(("v", "w"), {}, metrics))
    assert found["Z-attention", ("v", "w")].verdict == verdict


def test_what_was_left_out_is_said():
    found = verdicts([VIT, CNN])
    assert found["R-uniform", ("v", "c")].detail == "cka: was left out"


def test_ids_are_unique_and_verdicts_are_json():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {v.as_dict()["verdict"] for v in verdicts([VIT, CNN]).values()} == {"not applicable"}
