"""Intervals of what is formed of a CKA map: against refits, and how often they hold the truth."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from zoo.measures.deconfounded import without_given
from zoo.measures.hsic_replicates import HsicReplicates, hsic_among
from zoo.measures.intervals import fisher_interval
from zoo.measures.linear_cka import centred_gram, cka_from_hsic, linear_cka, pairwise_hsic
from zoo.measures.replicates import (
    GroupedMean,
    Replicates,
    percentile_interval,
)


def grams(*features):
    return torch.stack([centred_gram(torch.as_tensor(x)).values for x in features])


def collected(batches):
    """Replicates of HSIC from batches, each a list of layers' features."""
    found = HsicReplicates(batches=len(batches), layers=len(batches[0]))
    for features in batches:
        found.add(grams(*features))
    return found.result()


def test_leaving_a_group_out_is_measuring_the_other_images():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 3)), random.normal(size=(20, 5))
    y[:, :3] += x
    matrices = grams(x, y)
    for group in range(4):
        kept = np.arange(20) % 4 != group
        hsic = hsic_among(matrices, pairwise_hsic(matrices, 20).numpy(), kept)
        value = cka_from_hsic(hsic)[0, 1]
        assert value == pytest.approx(linear_cka(x[kept], y[kept]), abs=1e-12)


def test_an_image_that_dominates_can_be_left_out():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 3)), random.normal(size=(20, 5))
    y[:, :3] += x
    x[7], y[7] = 1e4, 1e4
    matrices, kept = grams(x, y), np.arange(20) != 7
    found = cka_from_hsic(hsic_among(matrices, pairwise_hsic(matrices, 20).numpy(), kept))
    assert found[0, 1] == pytest.approx(linear_cka(x[kept], y[kept]), abs=1e-6)


def test_each_batch_is_divided_and_the_others_stay():
    random = np.random.default_rng(0)
    batches = [[random.normal(size=(n, 3)) for _ in range(2)] for n in (40, 40, 24)]
    found = collected(batches)
    assert len(found.without) == 11 + 11 + 11  # 32 groups in all, the same number in each batch
    assert found.freedom == 30
    assert found.weight == pytest.approx(10 / 11)
    each = [collected([features]).whole for features in batches]
    second = hsic_among(grams(*batches[1]), each[1], np.arange(40) % 11 != 1)
    assert found.whole == pytest.approx(np.mean(each, axis=0))
    assert found.without[12] == pytest.approx((each[0] + second + each[2]) / 3)


def test_a_batch_too_small_to_divide_is_left_out_whole():
    random = np.random.default_rng(0)
    batches = [[random.normal(size=(n, 3)) for _ in range(2)] for n in (32, 6)]
    found = collected(batches)
    assert found.freedom == 15
    assert found.without[-1] == pytest.approx(collected(batches[:1]).whole)
    alone = collected(batches[1:])
    assert alone.freedom == 0
    assert np.isnan(percentile_interval(alone.draws()[:, 0, 1])[1:]).all()
    assert np.isnan(alone.similarity_interval()).all()


def test_the_interval_of_a_mean_is_the_t_interval():
    # A mean of single values, left out one by one: the textbook's, within the noise of draws.
    values = np.random.default_rng(0).normal(size=12)
    without = np.array([np.delete(values, i).mean() for i in range(12)])
    found = Replicates(np.array(values.mean()), without, np.full(12, 11 / 12), 11)
    half = scipy.stats.t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    expected = values.mean(), values.mean() - half, values.mean() + half
    assert percentile_interval(found.draws()) == pytest.approx(expected, abs=0.1 * half)
    ends = found.similarity_interval()
    error = values.std(ddof=1) / math.sqrt(12)
    assert ends == pytest.approx(fisher_interval(values.mean(), error, 11))


def test_stepwise_a_linear_function_has_the_same_replicates():
    values = np.random.default_rng(0).normal(size=(9, 3))
    gathered = GroupedMean()
    gathered.add(values)
    plain, stepwise = (
        way(lambda means: 2 * means + 1)
        for way in (gathered.result().map, gathered.result().map_stepwise)
    )
    assert stepwise.whole == pytest.approx(plain.whole)
    assert stepwise.without == pytest.approx(plain.without)


def test_stepwise_a_result_is_moved_towards_each_group_by_its_standard_error():
    values = np.random.default_rng(0).exponential(size=(8, 40)) ** 4
    gathered, seen = GroupedMean(8), []
    gathered.add(values)
    gathered.result().map_stepwise(lambda means: seen.append(means) or means)
    mean = values.mean(axis=0)
    assert np.stack(seen[:8]) == pytest.approx(mean + (values - mean) / math.sqrt(7))
    errors = values.std(axis=0, ddof=1) / math.sqrt(8)
    assert np.sqrt(((seen[:8] - mean) ** 2).mean(axis=0)) == pytest.approx(errors)


@pytest.mark.parametrize(("way", "enough"), [("map", False), ("map_stepwise", True)])
def test_intervals_of_a_number_that_moves_by_steps_hold_the_truth(way, enough):
    def rounded(mean):  # a step is 1.4 standard errors
        return 0.25 * np.round(mean / 0.25)

    held = []
    for trial in range(150):
        random, gathered = np.random.default_rng(trial), GroupedMean(8)
        truth = random.uniform()
        gathered.add(random.normal(truth, 1, (32, 1)))
        found = getattr(gathered.result(), way)(rounded)
        _, low, high = percentile_interval(found.draws()[:, 0])
        held.append(low - 1e-9 <= rounded(truth) <= high + 1e-9)
    assert (np.mean(held) > 0.92) == enough


def test_results_of_the_same_images_are_drawn_together():
    # What is 2 above another on all images is so in every draw.
    without = np.random.default_rng(0).normal(size=9)
    first = Replicates(np.array(0.5), without, np.full(9, 8 / 9), 8)
    second = Replicates(np.array(2.5), without + 2, np.full(9, 8 / 9), 8)
    assert second.draws() - first.draws() == pytest.approx(2)


def test_a_grouped_mean_is_that_of_the_other_images():
    values = np.random.default_rng(0).normal(size=(50, 3))
    values[4, 1] = np.nan
    gathered = GroupedMean()
    for part in (values[:20], values[20:]):
        gathered.add(part)
    found = gathered.result()
    assert found.whole == pytest.approx(np.nanmean(values, axis=0))
    assert list(gathered.count) == [50, 49, 50]
    for group in (0, 4, 31):
        kept = np.arange(50) % 32 != group
        assert found.without[group] == pytest.approx(np.nanmean(values[kept], axis=0))
    # As good as the t-interval of a mean, on images that are few to a group.
    _, low, high = percentile_interval(found.draws()[:, 0])
    half = scipy.stats.t.ppf(0.975, 49) * values[:, 0].std(ddof=1) / math.sqrt(50)
    assert (high - low) / 2 == pytest.approx(half, rel=0.25)


def test_few_images_are_a_group_each():
    gathered = GroupedMean()
    gathered.add(np.array([1.0, 2.0, 6.0]))
    found = gathered.result()
    assert found.without == pytest.approx([4, 3.5, 1.5])
    assert found.freedom == 2
    gathered = GroupedMean()
    gathered.add(np.array([[np.nan], [np.nan]]))
    assert np.isnan(gathered.result().whole).all()


# Made networks: all layers are noisy, mixed views of the same few hidden causes of an image.

LAYERS, HIDDEN, WIDTH = 5, 4, 12
MIX = np.random.default_rng(7).normal(size=(LAYERS, HIDDEN, WIDTH))
NOISE = (0.4, 0.8, 1.2, 1.6, 2.0)


def draw(random, n):
    hidden = random.normal(size=(n, HIDDEN)) * (2, 1, 0.7, 0.5)
    views = [
        hidden @ mix + s * random.normal(size=(n, WIDTH)) for mix, s in zip(MIX, NOISE, strict=True)
    ]
    pixels = hidden[:, :2] @ MIX[0, :2] + random.normal(size=(n, WIDTH))
    return [np.tanh(view) for view in views] + [pixels]


def cell(cka):
    return float(cka[0, 3])


def mean_difference(cka):
    return float(cka[0, 1:3].mean() - cka[4, 1:3].mean())


def ratio_of_best(cka):
    return float(cka[0, 1:4].max() / cka[1, 2:5].max())


def share_of_matches(cka):
    """Of the last two layers, how many are most like the first of three; it is a close call."""
    return float((cka[3:5, :3].argmax(axis=1) == 0).mean())


SMOOTH = {
    "a cell": (cka_from_hsic, cell),
    "a difference of means": (cka_from_hsic, mean_difference),
    "a ratio of best matches": (cka_from_hsic, ratio_of_best),
    "deconfounded": (lambda hsic: cka_from_hsic(without_given(hsic, 5)), cell),
}


@pytest.fixture(scope="module")
def whole():
    """HSIC of so many images that chance plays no part."""
    return collected([draw(np.random.default_rng(s), 500) for s in range(40)]).whole


@pytest.fixture(scope="module")
def trials():
    return [
        collected([draw(np.random.default_rng((s, b)), 48) for b in range(3)]) for s in range(600)
    ]


def test_an_interval_holds_its_own_number_where_the_draws_are_all_lower():
    # As of the negative range of many values: what noise is added makes it wider.
    draws = np.random.default_rng(0).uniform(0.75, 0.94, 1000)
    value, low, high = percentile_interval(np.array([0.95, *draws]))
    lowest, highest = np.percentile(draws, [2.5, 97.5])
    assert (value, low, high) == (0.95, lowest, 2 * 0.95 - lowest)
    assert highest < value  # which the middle of the draws alone would not hold
    within = np.array([0.9, *draws])
    assert percentile_interval(within)[1:] == (lowest, highest)


def interval_of(cka, scalar):
    return percentile_interval(np.array([scalar(one) for one in cka.draws()]))


def share_that_hold(ends, truth):
    return np.mean([low <= truth <= high for _, low, high in ends])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
def test_95_percent_intervals_hold_the_truth_in_95_percent_of_trials(name, trials, whole):
    made, scalar = SMOOTH[name]
    ends = [interval_of(found.map(made), scalar) for found in trials]
    assert share_that_hold(ends, scalar(made(whole))) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_intervals_of_cells_hold_the_truth_in_95_percent_of_trials(trials, whole):
    ends = [(0, *found.map(cka_from_hsic).similarity_interval()[:, 0, 3]) for found in trials]
    truth = cka_from_hsic(whole)[0, 3]
    assert share_that_hold(ends, truth) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_the_interval_of_a_share_that_is_a_close_call_is_wide_enough(trials, whole):
    cka = [found.map(cka_from_hsic) for found in trials[:200]]
    ends = [interval_of(found, share_of_matches) for found in cka]
    assert share_that_hold(ends, share_of_matches(cka_from_hsic(whole))) >= 0.93


@pytest.mark.slow
def test_a_difference_of_known_size_is_found_at_its_power(trials, whole):
    # The share of intervals above 0, against that of a t-test with the same true size and error.
    made, scalar = SMOOTH["a difference of means"]
    ends = np.array([interval_of(found.map(made), scalar) for found in trials])
    size, error = scalar(made(whole)), ends[:, 0].std()
    power = scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, 30), 30, size / error)
    assert (ends[:, 1] > 0).mean() == pytest.approx(power, abs=0.05)
