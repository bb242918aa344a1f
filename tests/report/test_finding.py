"""The finding's sentences, each against the numbers that it is made of."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.claims import made
from tests.claims.made import metrics, network
from zoo.report.finding import describe_finding
from zoo.study.results import INITIAL


def found(networks, **results):
    return made.found(networks, images=200, **results)


def untrained(of):
    """The same network before training, which was not asked for."""
    return replace(of, name=f"{of.name} at the start", state=INITIAL, compared=False)


def verdict(word):
    return SimpleNamespace(verdict=word, measurement=None if word == "not applicable" else 1)


V, C, D = network("v", "vit"), network("c", "cnn"), network("d", "cnn")


@pytest.mark.parametrize(("pair", "sign"), [(("c", "v"), 1), (("v", "c"), -1)])
def test_the_better_of_two_comes_first_and_the_difference_has_its_interval(pair, sign):
    ends = [sign * 0.3, *sorted([sign * 0.2, sign * 0.45])]
    accuracy = metrics(accuracy={"v": 0.5, "c": 0.8}, difference={pair: ends})
    assert describe_finding(found([V, C], accuracy=accuracy), []) == (
        "c classifies 80.0 % of 200 images correctly and v 50.0 %: 30.0 points less "
        "(95 % interval 20.0 to 45.0)."
    )


@pytest.mark.parametrize("ends", [[0.01, -0.02, 0.04], [0.0, -0.03, 0.03]])
def test_a_difference_within_chance_is_its_own_and_not_an_end_of_its_interval(ends):
    rates = {"v": 0.9, "c": 0.9 - ends[0]}
    accuracy = metrics(accuracy=rates, difference={("v", "c"): ends})
    said = describe_finding(found([V, C], accuracy=accuracy), [])
    assert f": {100 * ends[0]:.1f} points less " in said
    assert f"({100 * ends[1]:.1f} to {100 * ends[2]:.1f})" in said.replace("95 % interval ", "")


def test_similarity_stands_beside_the_untrained_networks_and_tells_where_in_depth():
    cka = np.full((7, 7), 0.1)
    cka[:2, 3] = 0.9  # the lowest third of stem and five blocks; the head does not count
    cka[6] = cka[:, 6] = 1.0
    before = [untrained(V), untrained(C)]
    means = {("v", "c"): 0.4, (before[0].name, "c"): 0.3, (before[1].name, "v"): 0.2}
    measured = {"mean_all_pairs": means, "mean_off_diagonal": {"v": 0.7, "c": 0.6}}
    result = made.cka({("v", "c"): cka}, measured)
    said = describe_finding(found([V, C, *before], cka=result), [])
    assert said == (
        "Over all pairs of layers they have a mean CKA of 0.40; an untrained v has 0.30 with c; "
        "an untrained c has 0.20 with v. The best match in c is 0.90 for the lowest third of v's "
        "layers and 0.10 for the highest. Different layers of one network have a mean CKA of 0.70 "
        "in v and 0.60 in c."
    )


def test_a_layer_without_a_value_leaves_the_sentence_on_depth_out():
    cka = np.full((7, 7), 0.1)
    cka[0, 0] = np.nan
    result = made.cka({("v", "c"): cka}, {"mean_all_pairs": {("v", "c"): 0.4}})
    said = describe_finding(found([V, C], cka=result), [])
    assert said == "Over all pairs of layers they have a mean CKA of 0.40."


def test_of_more_than_two_the_ends_of_the_range_are_named():
    accuracy = metrics(accuracy={"v": 0.5, "c": 0.8, "d": 0.7})
    cka = metrics(
        mean_all_pairs={("v", "c"): 0.4, ("v", "d"): 0.3, ("c", "d"): 0.8},
        mean_off_diagonal={"v": 0.1, "c": 0.2, "d": 0.3},
    )
    said = describe_finding(found([V, C, D], accuracy=accuracy, cka=cka), [])
    assert said == (
        "Of 3 models, c classifies the most of 200 images correctly (80.0 %) and v the fewest "
        "(50.0 %). Over all pairs of layers, two models have a mean CKA of 0.30 (v and d) to 0.80 "
        "(c and d). Different layers of one network have a mean CKA of 0.10 in v to 0.30 in d."
    )


def test_attention_and_reach_are_told_of_the_models_that_have_them():
    attention = metrics(entropy={"v": 0.94})
    field = metrics(radius90_first_block={"v": 0.67})
    said = describe_finding(found([V, C], attention_maps=attention, receptive_field=field), [])
    assert "Of the entropy of even attention, attention has 94 % in v." in said
    assert said.endswith("diagonal: 67 % in v.")


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], ""),
        ([verdict("not applicable")], ""),
        ([verdict("supported")], "Of 1 test of the papers' claims: 1 supported."),
        (
            [
                verdict(w)
                for w in ("undecided", "built in", "supported", "built in", "not supported")
            ],
            "Of 5 tests of the papers' claims: 1 supported, 2 built in (held before training as "
            "well), 1 undecided, 1 not supported.",
        ),
    ],
)
def test_claims_are_counted_and_told_apart_from_what_holds_untrained(verdicts, said):
    assert describe_finding(found([V, C]), verdicts) == said


def test_one_model_alone_is_described_without_a_pair():
    accuracy = metrics(accuracy={"v": 0.5})
    said = describe_finding(found([V], accuracy=accuracy), [])
    assert said == "v classifies 50.0 % of 200 images correctly."
