"""The page's answers, each against the numbers that it is made of: turned, tied, alone, many."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.claims import made
from tests.claims.made import metrics, network
from zoo.analyses import ANALYSES
from zoo.claims import CLAIMS
from zoo.claims.decide import OTHER_SIDE, STRENGTHENED, UNDONE, WEAKENED
from zoo.report.answers import GAP_STUDY, answer
from zoo.report.questions import FOR_PRINT, QUESTIONS, WITH_PANEL
from zoo.study.results import INITIAL, Metric, Result

V, C = network("v", "vit"), network("c", "cnn")
W = network("w", "vit", "t", 400)
LABELS = np.arange(8)


def rated(right: dict[str, str], *found: Metric) -> Result:
    """Answers on eight images of eight classes: `+` is right."""
    rows = [[i if sign == "+" else -1 for i, sign in enumerate(signs)] for signs in right.values()]
    data = xr.Dataset(
        {"predicted": (("network", "image"), np.array(rows))},
        {"network": list(right), "label": ("image", LABELS)},
    )
    return Result(data, metrics=found)


def gap(a: str, b: str, *ends: float) -> Metric:
    return Metric("difference", ends[0], a, b, *ends[1:], pair="signed")


def shares(**by_network: float) -> tuple[Metric, ...]:
    return tuple(Metric("accuracy", value, name) for name, value in by_network.items())


def test_every_analysis_and_every_claim_of_a_comparison_has_one_question():
    analyses = [name for question in QUESTIONS for name in question.analyses]
    assert sorted(analyses) == sorted(ANALYSES)
    claims = [claim for question in QUESTIONS for claim in question.claims]
    assert len(set(claims)) == len(claims)
    assert set(claims) <= {claim.id for claim in CLAIMS}


def test_kinds_of_figures_are_those_that_analyses_draw():
    from zoo.analyses import load_analysis

    drawn = {kind for name in ANALYSES for kind in load_analysis(name).ABOUT.captions}
    heroes = {kind for question in QUESTIONS for kind in question.heroes}
    assert heroes | FOR_PRINT | WITH_PANEL <= drawn


@pytest.mark.parametrize("order", [("v", "c"), ("c", "v")])
def test_who_is_right_is_counted_whatever_the_order(order):
    signs = {"v": "+++-----", "c": "++--+++-"}
    kappa = Metric("error_consistency", -0.3, "v", "c", -0.5, -0.1)
    of = [{"v": V, "c": C}[name] for name in order]
    result = rated({name: signs[name] for name in order}, kappa)
    said = answer("right", made.found(of, accuracy=result), [])
    alone = {"v": 1, "c": 3}
    a, b = order
    assert said[0] == (
        f"Of 8 images, both models are right on 2, only {a} on {alone[a]}, only {b} on "
        f"{alone[b]} and neither on 2."
    )
    assert said[1].startswith("They are wrong on the same images less often than two independent")
    assert said[1].endswith("κ −0.30 (−0.50 to −0.10)).")


def test_counts_of_one_seed_say_so():
    second = replace(V, name="v 2", model="v", seed=1, compared=False)
    result = rated({"v": "+++-----", "c": "++--+++-"})
    said = answer("right", made.found([V, C, second], accuracy=result), [])
    assert said[0].startswith("Of 8 images, in one seed of each, both models are right on 2,")


def test_an_error_consistency_around_0_is_no_finding():
    kappa = Metric("error_consistency", 0.1, "v", "c", -0.1, 0.3)
    result = rated({"v": "+" * 8, "c": "-" * 8}, kappa)
    said = answer("right", made.found([V, C], accuracy=result), [])
    assert "neither more nor less often, beyond noise, than" in said[1]


def test_one_model_and_three_are_counted_too():
    one = answer("right", made.found([V], accuracy=rated({"v": "++------"})), [])
    assert one == ["v is right on 2 of 8 images."]
    signs = {"v": "++------", "c": "+-------", "w": "+++-----"}
    three = answer("right", made.found([V, C, W], accuracy=rated(signs)), [])
    assert three == ["Of 8 images, all 3 models are right on 1 and none on 5."]


def test_reach_and_evenness_stand_beside_the_untrained_network_where_it_is_known():
    before = replace(V, name="v at the start", state=INITIAL, compared=False)
    field = metrics(radius90_first_block={"v": 0.67, "c": 0.29, before.name: 0.6})
    attention = metrics(entropy={"v": 0.943})
    found = made.found([V, C, before], receptive_field=field, attention_maps=attention)
    reach, even = answer("look", found, [])
    assert reach.endswith(": v 67 % (untrained 60 %), c 29 %.")
    assert even.endswith(": v 94.3 %.")


def test_matches_are_told_both_ways_and_untrained():
    before = replace(V, name="v at the start", state=INITIAL, compared=False)
    cka = np.full((7, 7), 0.1)
    cka[:2, 5] = 0.9  # the lowest third of stem and five blocks; the head does not count
    maps = {("v", "c"): cka, (before.name, "c"): np.full((7, 7), 0.5)}
    said = answer("layers", made.found([V, C, before], cka=made.cka(maps)), [])
    assert said[0].endswith("in c at a mean CKA of 0.90, the highest third at 0.10 "
                            "(untrained 0.50 and 0.50).")  # fmt: skip
    assert said[1].endswith("in v at a mean CKA of 0.10, the highest third at 0.50.")


def test_a_layer_without_a_value_is_not_matched():
    cka = np.full((7, 7), 0.1)
    cka[0, 0] = np.nan
    assert answer("layers", made.found([V, C], cka=made.cka({("v", "c"): cka})), []) == []


def test_what_was_learnt_names_claims_by_what_training_did():
    claims = [
        {"statement": statement, "verdict": verdict, "reason": reason, "before": before}
        for statement, verdict, reason, before in (
            ("A ViT is one", "supported", "", {"value": 0.0}),
            ("CNNs are two", "built in", "", {"value": 0.0}),
            ("Maps are three", "not supported", UNDONE, {"value": 0.0}),
            ("Maps are four", "not supported", OTHER_SIDE, {"value": 0.0}),
            ("Five", "undecided", "", None),
            ("CNNs are two", "built in", "", {"value": 0.0}),  # of another group of networks
            ("A ViT is six", "supported", "", None),
            ("A ViT is seven", "built in", WEAKENED, {"value": 0.0}),
            ("A ViT is eight", "supported", STRENGTHENED, {"value": 0.0}),
        )
    ]
    assert answer("learnt", made.found([V, C]), claims) == [
        "Training brought this: a ViT is one.",
        "True for answers that only trained networks give: a ViT is six.",
        "True before training as well, and strengthened by training: a ViT is eight.",
        "True before training as well: CNNs are two.",
        "True before training as well, but weakened by training: a ViT is seven.",
        "True before training, but no longer: maps are three.",
    ]
    assert answer("learnt", made.found([V, C]), claims[3:5]) == []
    before = replace(V, name="v at the start", state=INITIAL, compared=False)
    best = {"v": 0.81, before.name: 0.87}
    probes = metrics(best_layer_accuracy=best, pixels_accuracy={"": 0.9})
    assert answer("learnt", made.found([V, before], probes=probes), []) == [
        "A linear probe at the best layer of each network is right on: v 81.0 % (untrained "
        "87.0 %), on raw pixels alone 90.0 %."
    ]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.3, 0.2, 0.45), "v is 30 (20 to 45) percentage points more accurate than c."),
        ((-0.3, -0.45, -0.2), "c is 30 (20 to 45) percentage points more accurate than v."),
        (
            (0.0, -0.1, 0.1),
            "v and c do not differ detectably in accuracy: 0 (−10 to 10) percentage points.",
        ),
    ],
)
def test_a_gap_is_told_in_its_direction_and_only_beyond_noise(ends, said):
    values = shares(v=0.5 + ends[0], c=0.5)
    found = made.found(
        [V, C], accuracy=rated({"v": "+" * 8, "c": "+" * 8}, gap("v", "c", *ends), *values)
    )
    assert answer("gap", found, [])[0] == said


def test_a_gap_stands_beside_the_accuracy_in_training_where_that_is_known():
    gaps = rated(dict.fromkeys("vc", "+" * 8), gap("v", "c", 0.3, 0.2, 0.4), *shares(v=0.8, c=0.5))
    models = [
        {"name": "v", "metrics": {"train/accuracy": 0.95}}, {"name": "c", "metrics": {}},
    ]  # fmt: skip
    found = replace(made.found([V, C], accuracy=gaps), provenance={"models": models})
    assert "Accuracy on their own training images: v 95.0 %." in answer("gap", found, [])


def test_what_the_gap_study_found_is_told_of_a_vit_and_a_cnn_as_its_page_has_it():
    shown = rated(dict.fromkeys("vcw", "+" * 8), *shares(v=0.8, c=0.5, w=0.6))
    said = answer("gap", made.found([V, C], accuracy=shown), [])
    assert said[-1] == GAP_STUDY
    page = Path("docs/gap.md").read_text()
    shares_told = re.findall(r"[−\d]+ % \([^)]*\)", GAP_STUDY)
    assert len(shares_told) == 7
    assert all(share in page for share in shares_told)
    assert GAP_STUDY not in answer("gap", made.found([V, W], accuracy=shown), [])


def test_more_data_is_told_of_the_same_architecture_only():
    values = shares(v=0.5, c=0.6, w=0.9)
    gaps = gap("w", "v", 0.4, 0.3, 0.5), gap("w", "c", 0.3, 0.2, 0.4)
    signs = dict.fromkeys("vcw", "+" * 8)
    found = made.found([V, C, W], accuracy=rated(signs, *gaps, *values))
    said = answer("gap", found, [])
    assert [s for s in said if s.startswith("Trained on")] == [
        "Trained on 400 images instead of 100: w is 40 (30 to 50) percentage points more accurate "
        "than v."
    ]


def test_nothing_is_said_of_what_was_not_measured():
    for question in QUESTIONS:
        assert answer(question.id, made.found([V, C]), []) == []


def test_a_claim_that_holds_for_one_model_of_two_names_it():
    claims = [
        {"statement": "Networks are sure", "verdict": verdict, "reason": "", "before": None,
         "models": [model]}
        for model, verdict in (("v", "undecided"), ("c", "supported"))
    ]  # fmt: skip
    assert answer("learnt", made.found([V, C]), claims) == [
        "True for answers that only trained networks give: networks are sure (c)."
    ]


def test_best_matches_of_one_seed_say_so():
    second = replace(V, name="v 2", model="v", seed=1, compared=False)
    found = made.found([V, C, second], cka=made.cka({("v", "c"): np.eye(7) * 0.5}))
    first, other = answer("layers", found, [])
    assert first.startswith("In one seed, the lowest third of v's layers finds")
    assert other.startswith("The lowest third of c's layers finds")
