"""Verdicts from numbers alone: what each word needs, and what several tests make of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from zoo.claims import CLAIMS
from zoo.claims.base import Measurement, Threshold, Verdict, measured, over_seeds
from zoo.claims.decide import OTHER_SIDE, UNDONE, decide, p_against, verdict_of

CLAIM = replace(CLAIMS[0], threshold=Threshold("above", 0))


def number(value, half=0.1):
    return Measurement(value, "", value - half, value + half)


ABOVE = Threshold("above", 0)


def word(found, before=None, change=None, *, threshold=ABOVE):
    return verdict_of(threshold, found, before, change, p_against(found, threshold))[0]


@pytest.mark.parametrize(
    ("value", "before", "change", "expected"),
    [
        (0.5, 0.0, 0.5, "supported"),  # training brought it
        (0.5, 0.2, 0.3, "supported"),  # it held before; training increased it
        (0.5, 0.5, 0.0, "built in"),  # it held before, and training did nothing to it
        (0.5, 0.8, -0.3, "built in"),  # it held before, and more so
        (0.5, 0.05, 0.05, "undecided"),  # neither is beyond noise
        (0.05, 0.0, 0.05, "undecided"),  # the interval includes the threshold
        (-0.5, 0.5, -1.0, "not supported"),
    ],
)
def test_each_verdict_needs_what_its_word_says(value, before, change, expected):
    found = number(value), number(before), number(change).estimate
    assert word(*found) == expected
    # The same claim the other way round.
    mirrored = number(-value), number(-before), number(-change).estimate
    assert word(*mirrored, threshold=Threshold("below", 0)) == expected


@pytest.mark.parametrize(
    ("value", "before", "said"),
    [
        (-0.5, 0.5, UNDONE),
        (-0.5, 0.05, OTHER_SIDE),  # the interval of before includes the threshold
        (0.5, 0.5, "there is no sign that training added to it"),
        (0.5, 0.8, "held before training, which weakened it"),
        (0.5, 0.2, "held before training, which strengthened it"),
        (0.5, 0.05, "it holds beyond noise, and training moved it this way"),
    ],
)
def test_the_reason_says_what_training_did(value, before, said):
    found, start = number(value), number(before)
    _, reason = verdict_of(
        Threshold("above", 0), found, start, number(value - before).estimate, 0.001
    )
    assert said in reason


def test_what_was_before_training_unknown_is_not_supported_however_clear():
    assert word(number(0.5)) == "undecided"
    assert word(number(-0.5)) == "not supported"


def test_without_an_interval_nothing_is_decided():
    bare = Measurement(0.5, "")
    assert word(bare, number(0.0), number(0.5).estimate) == "undecided"
    # Of the change neither: it may be chance that training moved it.
    assert word(number(0.5), bare, number(0.5).minus(bare)) == "undecided"


@pytest.mark.parametrize(
    ("draws", "said"),
    [
        ([1.0] * 100, "3 of 3 at both ends"),
        ([1.0] * 50 + [2 / 3] * 50, "2 to 3 of 3"),
    ],
)
def test_a_share_of_all_layers_is_told_by_counts(draws, said):
    found = measured(np.array([1.0, *draws]), "", parts=3)
    entry = Verdict(CLAIM, ("v",), 50, "undecided", "", found, found).as_dict()
    assert entry["counted"] == entry["before"]["counted"] == said
    below = sum(draw <= 0.75 for draw in draws)
    assert p_against(found, Threshold("above", 0.75)) == pytest.approx(
        min(1, 2 * (1 + below) / 101)
    )
    assert p_against(found, Threshold("at least", 1)) == pytest.approx(
        min(1, 2 * (1 + below) / 101)
    )
    # So is the number of seeds that all give the same share; a mean of others is no count.
    seeds = [found, measured(np.array([2 / 3, *draws]), "", parts=3)]
    assert over_seeds([found, found]).parts == 3
    assert over_seeds(seeds).parts == 0


@pytest.mark.parametrize("value", [0.6, 0.95])
def test_the_p_value_of_draws_and_their_interval_agree(value):
    # Of 0.95 the middle of the draws misses the number: the interval reaches to its other side.
    draws = np.random.default_rng(0).uniform(0.5, 0.9, 1000)
    found = measured(np.array([value, *draws]), "", parts=20)
    for bound in np.linspace(0.4, 1.5, 112):
        p = p_against(found, Threshold("above", bound))
        if bound < found.low - 0.01 or bound > found.high + 0.01:
            assert p < 0.05
        elif found.low + 0.01 < bound < found.high - 0.01:
            assert p >= 0.05


@pytest.mark.parametrize(
    ("draws", "said", "p"),
    [
        ([0.0] * 100, "0 at both ends", 2 / 101),
        ([0.0] * 97 + [1.0] * 3, "", 8 / 101),
    ],
)
def test_a_count_of_heads_moves_by_steps_as_a_share_does(draws, said, p):
    # A hundred draws cannot show less than 2 in 101, however alike they are.
    found = measured(np.array([0.0, *draws]), "", count=True)
    assert Verdict(CLAIM, ("v",), 50, "undecided", "", found).as_dict()["counted"] == said
    assert p_against(found, Threshold("at least", 1)) == pytest.approx(p)
    assert over_seeds([found, found]).count
    assert not over_seeds([found, measured(np.array([1.0, *draws]), "", count=True)]).count


def test_of_the_least_and_the_most_a_change_is_the_least_less_the_most():
    random = np.random.default_rng(0)
    found, before = (
        measured(np.concatenate([[[at, at]], at + np.sort(random.normal(size=(1000, 2)))]), "")
        for at in (3, 1)
    )
    (least, most), (least_before, most_before) = found.draws[1:].T, before.draws[1:].T
    value, low, high = found.minus(before)
    assert value == 2
    assert low == np.percentile(least - most_before, 2.5)
    assert high == np.percentile(most - least_before, 97.5)


def test_draws_of_which_one_is_no_number_decide_nothing():
    found = measured(np.array([1.0, np.nan, *[1.0] * 100]), "", parts=3)
    assert math.isnan(p_against(found, Threshold("above", 0.5)))
    assert word(found, number(0.0), number(1.0).estimate) == "undecided"


def test_where_the_threshold_itself_counts_it_may_be_the_end_of_the_interval():
    all_heads = Measurement(1.0, "", 1.0, 1.0)
    change = (0.5, 0.4, 0.6)
    assert word(all_heads, number(0.5), change, threshold=Threshold("at least", 1)) == "supported"
    assert word(all_heads, number(0.5), change, threshold=Threshold("above", 1)) == "undecided"
    some = Measurement(1.0, "", 0.9, 1.0)
    assert word(some, number(0.5), change, threshold=Threshold("at least", 1)) == "undecided"


def test_several_tests_are_corrected_and_the_uncorrected_p_is_kept():
    clear, close = number(0.5), number(0.105)  # the second is just beyond 0
    tests = [
        Verdict(CLAIM, ("a",), 10, "undecided", "", found, number(0.0), found.estimate)
        for found in (clear, *[close] * 4)
    ]
    (alone,) = decide(tests[1:2])
    assert alone.verdict == "supported"
    assert alone.p == alone.p_holm < 0.05
    decided = decide([*tests, Verdict(CLAIM, (), 10, "not applicable", "needs more")])
    assert [v.verdict for v in decided] == ["supported", *["undecided"] * 4, "not applicable"]
    assert decided[1].p == alone.p < 0.05 < decided[1].p_holm
    assert decided[1].reason == "beyond the threshold, but not after correction for several tests"
    other = [replace(test, measurement=number(-test.measurement.value)) for test in tests]
    assert decide(other)[1].reason.startswith("on the other side of the threshold, but not after")
    assert math.isnan(decided[-1].p)


def test_a_difference_of_the_same_images_is_paired():
    # Both numbers vary by 1 from draw to draw, their difference by 0.01.
    random = np.random.default_rng(0)
    common = random.normal(size=1001)
    first = measured(common + 1, "")
    second = measured(common + 0.01 * random.normal(size=1001), "")
    value, low, high = first.minus(second)
    assert high - low < 0.05
    assert low < value < high
    apart = replace(first, draws=None).minus(second)
    assert apart[2] - apart[1] > 3


@pytest.mark.slow
@pytest.mark.parametrize("brought", [0.0, 0.1, 0.2])
def test_what_training_brought_is_found_at_its_power(brought):
    # Numbers before and after, measured anew. Where training brought nothing, noise alone may
    # support the claim.
    random = np.random.default_rng(0)
    supported = 0
    for _ in range(2000):
        values = random.normal((0.3 + brought, 0.3), 0.05)
        found, before = (number(v, 1.96 * 0.05) for v in values)
        supported += word(found, before, found.minus(before)) == "supported"
    power = scipy.stats.norm.sf(1.96 - brought / (0.05 * math.sqrt(2)))
    assert supported / 2000 == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / 2000))


def test_counts_are_whole_numbers_however_they_were_computed():
    found = measured(np.array([1.0] + [0.0] * 50 + [2.0] * 50), "", count=True)
    entry = Verdict(CLAIM, ("v",), 50, "undecided", "", found, found, found.minus(found)).as_dict()
    for of in (entry, entry["before"], entry["change"]):  # so page and terminal write them
        assert [type(of[key]) for key in ("value", "low", "high")] == [int] * 3
    assert (entry["value"], entry["low"], entry["high"]) == (1, 0, 2)
    assert over_seeds([found, found]).detail.startswith("seed by seed 1, 1; ")


def test_a_mean_of_counts_and_a_difference_of_shares_keep_their_decimals():
    counts = [measured(np.array([n, n, n]), "", count=True) for n in (0.0, 1.0, 1.0)]
    shares = measured(np.array([0.25, 0.0, 1.0]), "", count=True)
    for found in (over_seeds(counts), shares):
        assert type(Verdict(CLAIM, ("v",), 9, "undecided", "", found).as_dict()["value"]) is float
    assert over_seeds([shares, shares]).detail.startswith("seed by seed 0.250, 0.250; ")
