"""Claims on what networks do rather than on what they look like inside."""

import pytest

from tests.claims.made import CNN, VIT, metrics, network, verdicts
from zoo.study.results import INITIAL

BEFORE = {"state": INITIAL, "compared": False}
LESS, MORE = VIT, network("w", "vit", "t", 400)
MORE_FIRST = network("w0", "vit", "t", 400, model="w", **BEFORE)
LESS_FIRST = network("v0", "vit", model="v", **BEFORE)


@pytest.mark.parametrize(
    ("gained", "before", "verdict"),
    [
        ([0.2, 0.1, 0.3], [-0.3, -0.4, -0.2], "supported"),
        ([0.2, 0.1, 0.3], [0.2, 0.1, 0.3], "built in"),  # any features of these images would do
        ([0.05, -0.1, 0.2], [-0.3, -0.4, -0.2], "undecided"),
        ([-0.2, -0.3, -0.1], [-0.3, -0.4, -0.2], "not supported"),
    ],
)
def test_more_data_plugs_in_where_untrained_features_would_not_do(gained, before, verdict):
    made = metrics(gained_same_depth={("w", "v"): gained, ("w0", "v"): before})
    found = verdicts([LESS, MORE, LESS_FIRST, MORE_FIRST], stitching=made)
    assert found["B-more", ("v", "w")].verdict == verdict


def test_of_two_networks_on_the_same_data_nothing_is_plugged_in():
    made = metrics(gained_same_depth={("c", "v"): [0.2, 0.1, 0.3]})
    assert found_groups([VIT, CNN], "B-more", stitching=made) == {()}


def found_groups(networks, claim, **results):
    return {names for name, names in verdicts(networks, **results) if name == claim}


@pytest.mark.parametrize("sign", [-1, 1])
def test_of_claims_that_contradict_each_other_one_at_most_is_supported(sign):
    cnn_first = network("c0", "cnn", model="c", **BEFORE)
    ends = sorted([sign * 0.5, sign * 1.5])
    made = metrics(largest_log_ratio={("v", "c"): [sign, *ends], ("v0", "c0"): [0.0, -0.2, 0.2]})
    found = verdicts([VIT, CNN, LESS_FIRST, cnn_first], loss_geometry=made)
    words = {claim: found[claim, ("v", "c")].verdict for claim in ("P-flat", "C-sharp")}
    assert sorted(words.values()) == ["not supported", "supported"]
    assert words["P-flat" if sign < 0 else "C-sharp"] == "supported"


@pytest.mark.parametrize(
    ("kappa", "verdict"), [([0.4, 0.3, 0.5], "supported"), ([0.02, -0.1, 0.1], "undecided"),
                           ([-0.2, -0.3, -0.1], "not supported")],
)  # fmt: skip
def test_two_cnns_err_together_more_than_chance_and_than_before_training(kappa, verdict):
    other = network("d", "cnn", arch="other")
    first = [network(f"{n}0", "cnn", model=n, **BEFORE) for n in ("c", "d")]
    made = metrics(error_consistency={("c", "d"): kappa, ("c0", "d0"): [0.0, -0.1, 0.1]})
    found = verdicts([VIT, CNN, other, *first], differences=made)
    assert found["G-consistent", ("c", "d")].verdict == verdict
    assert found_groups([VIT, CNN], "G-consistent", differences=made) == {()}
