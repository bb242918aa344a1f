"""Claims over seeds: means, intervals over seeds, in how many they hold, and which form a pair."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tests.claims import made
from zoo.claims import judge
from zoo.claims.base import Measurement, Threshold, measured, over_seeds
from zoo.claims.cases import groups_by_seed
from zoo.claims.decide import p_against
from zoo.measures.intervals import SHARE
from zoo.study.results import INITIAL
from zoo.study.seeds import accuracy_difference
from zoo.study.seeds import over_seeds as numbers_over_seeds

VALUES = {0: 0.30, 1: 0.36, 2: 0.24}


def seeds_of(network, *seeds):
    return [
        replace(
            network, name=f"{network.name} seed {s}", model=network.name, seed=s, compared=False
        )
        for s in seeds
    ]


def before(networks):
    return [
        replace(n, name=f"{n.name} untrained", model=n.model, state=INITIAL, compared=False)
        for n in networks
    ]


def kept(values, start, skip=()):
    """R-skip-cnn on three seeds of a ViT and a CNN, with these numbers of the ViT."""
    trained = [made.VIT, made.CNN, *seeds_of(made.VIT, 1, 2), *seeds_of(made.CNN, 1, 2)]
    networks = [n for n in (*trained, *before(trained)) if n.name not in skip]
    lost = {
        n.name: (values if n.state != INITIAL else start).get(n.seed)
        for n in networks
        if n.family == "vit"
    }
    over = {n.name: 0.0 for n in networks if n.family == "cnn"}
    return networks, lost | over


def overconfident(values, start, skip=()):
    networks, found = kept(values, start, skip)
    metrics = {name: [v, v - 0.01, v + 0.01] for name, v in found.items() if v is not None}
    results = made.found(networks, calibration=made.metrics(overconfidence=metrics))
    return next(v for v in judge(results) if v.claim.id == "G-overconfident" and v.models == ("v",))


def test_a_claim_is_tested_on_the_mean_over_seeds_with_their_t_interval():
    verdict = overconfident(VALUES, {0: 0.1, 1: 0.1, 2: 0.1})
    test = ttest_1samp(list(VALUES.values()), 0)
    ends = test.confidence_interval(0.95)
    assert verdict.measurement.estimate == pytest.approx((0.3, ends.low, ends.high))
    assert verdict.p == pytest.approx(test.pvalue)
    change = ttest_1samp(np.array(list(VALUES.values())) - 0.1, 0).confidence_interval(0.95)
    assert verdict.change == pytest.approx((0.2, change.low, change.high))
    assert (verdict.held, verdict.measurement.over) == ((3, 3), "seeds")
    assert verdict.as_dict()["seeds"] == [3, 3]


def test_two_seeds_leave_almost_everything_open():
    values = {0: 0.3, 1: 0.2}
    found = over_seeds([Measurement(v, "", v - 0.01, v + 0.01) for v in values.values()])
    assert p_against(found, Threshold("above", 0)) == pytest.approx(
        ttest_1samp([0.3, 0.2], 0).pvalue
    )
    assert (
        p_against(found, Threshold("above", 0)) > 0.05
    )  # five standard errors off, with one degree of freedom


def test_a_claim_may_hold_in_some_seeds_only():
    verdict = overconfident({0: 0.3, 1: -0.1, 2: 0.2}, {0: 0.0, 1: 0.0, 2: 0.0})
    assert (verdict.held, verdict.verdict) == ((2, 3), "undecided")


def test_where_a_seed_was_not_measured_the_first_stands_alone_with_images():
    verdict = overconfident(VALUES | {2: None}, {0: 0.1, 1: 0.1, 2: 0.1})
    assert verdict.measurement.estimate == pytest.approx((0.3, 0.29, 0.31))
    assert (verdict.held, verdict.measurement.over) == (None, "images")


def test_without_all_starts_nothing_is_said_of_training():
    skip = [n.name for n in before(seeds_of(made.VIT, 2))]
    verdict = overconfident(VALUES, {0: 0.1, 1: 0.1, 2: 0.1}, skip)
    assert (verdict.before, verdict.change, verdict.held) == (None, None, (3, 3))


def test_seeds_that_agree_exactly_keep_the_interval_over_images():
    rng = np.random.default_rng(0)
    each = [Measurement(0.5, "", 0.3, 0.7, 0.5 + rng.normal(0, 0.1, 1001)) for _ in range(2)]
    for one in each:
        one.draws[0] = 0.5
    found = over_seeds(each)
    assert (found.value, found.over, found.by_seed) == (0.5, "images", (0.5, 0.5))
    assert found.high - found.low == pytest.approx(4 * 0.1 / np.sqrt(2), rel=0.1)
    bare = over_seeds([replace(one, draws=None) for one in each])
    assert bare.estimate == (0.5, 0.3, 0.7)


def test_networks_on_less_and_more_data_are_taken_with_different_seeds():
    less, more, cnn_less, cnn_more = made.LESS_AND_MORE
    networks = [
        *made.LESS_AND_MORE,
        *(sibling for network in made.LESS_AND_MORE for sibling in seeds_of(network, 1, 2)),
    ]
    groups = groups_by_seed(made.found(networks), (less, more, cnn_less, cnn_more))
    assert [[n.seed for n in group] for group in groups] == [
        [0, 1, 0, 1],
        [1, 2, 1, 2],
        [2, 0, 2, 0],
    ]
    assert [n.model for n in groups[1]] == ["v", "w", "c", "d"]
    # Of different architectures the same seed is no common start; of one seed there is no choice.
    assert [
        [n.seed for n in g] for g in groups_by_seed(made.found(networks), (less, cnn_less))
    ] == [
        [0, 0],
        [1, 1],
        [2, 2],
    ]
    alone = made.found(made.LESS_AND_MORE)
    assert groups_by_seed(alone, (less, more)) == [(less, more)]
    fewer = made.found([n for n in networks if n.name not in ("v seed 1", "v seed 2")])
    assert [[n.seed for n in g] for g in groups_by_seed(fewer, (less, more))] == [[0, 1]]


def test_seeds_that_differ_by_rounding_alone_agree():
    # 0.7 − 0.4 and 0.6 − 0.3 are one number in all but their last bits.
    found = over_seeds([Measurement(v, "", v - 0.5, v + 0.5) for v in (0.7 - 0.4, 0.6 - 0.3)])
    assert (found.over, found.low) == ("images", pytest.approx(-0.2))
    assert p_against(found, Threshold("above", 0)) > 0.05
    now, before = (
        over_seeds([measured(np.array([v, v - 0.5, v + 0.5]), "") for v in values])
        for values in ((0.8, 0.6), (0.4, 0.2))
    )
    _, low, high = now.minus(replace(before, draws=-before.draws))
    assert low < 0.4 < high
    metrics = {"accuracy": {"v": 0.7, "v seed 1": 0.6, "c": 0.4, "c seed 1": 0.3},
               "difference": {("v", "c"): [0.3, 0.2, 0.4]}}  # fmt: skip
    pairs = [("v", "c"), ("v seed 1", "c seed 1")]
    gap = accuracy_difference(made.metrics(**metrics), pairs)
    assert (gap.value, gap.low, gap.high) == (0.3, 0.2, 0.4)


def test_what_every_seed_gives_alike_has_the_interval_over_images():
    numbers = {"v": [0.5, 0.4, 0.6], "v seed 1": [0.5, 0.3, 0.7]}
    networks = [made.VIT, *seeds_of(made.VIT, 1)]
    (row,) = numbers_over_seeds(made.found(networks, accuracy=made.metrics(accuracy=numbers)))
    assert (row.mean, row.low, row.high, row.deviation) == (0.5, 0.4, 0.6, 0)


def test_no_interval_leaves_what_a_share_can_be_and_the_p_value_stays():
    shares = [0.5, 0.5, 1.0]
    whole, cut = (over_seeds([Measurement(v, "") for v in shares], *w) for w in ((), (SHARE,)))
    assert (whole.low, whole.high) == pytest.approx((-0.05, 1.38), abs=0.01)
    assert (cut.low, cut.high) == (0, 1)
    assert p_against(cut, Threshold("above", 0.5)) == p_against(whole, Threshold("above", 0.5))


def test_a_change_stays_within_what_a_difference_can_be():
    verdict = overconfident({0: 0.9, 1: -0.6, 2: 0.9}, {0: 0.1, 1: 0.1, 2: 0.1})
    assert (verdict.measurement.low, verdict.measurement.high) == (-1, 1)
    assert verdict.change[2] == 2
