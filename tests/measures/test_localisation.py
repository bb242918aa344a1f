"""What a score of localisation might be on other images: the groups left out, and coverage."""

import numpy as np
import pytest
import torch

from zoo.measures.linear_cka import centred_gram
from zoo.measures.localisation import HsicSums, localisation_score
from zoo.measures.replicates import GROUPS, percentile_interval

WIDTH = 3
PLACES = 6


def grams(values):
    return torch.stack([centred_gram(torch.tensor(value)).values for value in values])


def drawn(random, n):
    """Patches (places, n, width) and tokens that hold their own patch and the next, with noise.

    How much of either a token holds makes some places close calls.
    """
    patches = random.normal(size=(PLACES, n, WIDTH))
    share = np.linspace(0.3, 0.7, PLACES)[:, None, None]
    mixed = share * patches + (1 - share) * np.roll(patches, -1, axis=0)
    return mixed + 0.5 * random.normal(size=patches.shape), patches


def sums(*batches):
    found = HsicSums()
    for tokens, patches in batches:
        found.add(grams(tokens), grams(patches), tokens.shape[1])
    return found


def test_without_a_group_it_is_nearly_that_of_the_other_images():
    tokens, patches = drawn(np.random.default_rng(0), 128)
    found = sums((tokens, patches))
    whole = found.whole[:-1]
    for group in range(GROUPS):
        kept = np.arange(128) % GROUPS != group
        exact = sums((tokens[:, kept], patches[:, kept])).whole[:-1]
        near = found.without[group, :-1]
        error, moved = np.abs(near - exact).max(), np.abs(exact - whole).max()
        assert error < 0.25 * moved  # of second order in 4 of 128 images


def test_the_first_is_the_score_and_batches_share_groups():
    batches = [drawn(np.random.default_rng(s), n) for s, n in enumerate((40, 24))]
    found = sums(*batches)
    own = np.arange(PLACES)
    draws = found.scores(own)
    assert draws[0] == localisation_score(found.cka(), own)
    assert len(draws) == 1001
    assert set(np.round(draws * PLACES, 9)) <= set(range(PLACES + 1))


def test_sums_that_two_processes_gather_are_those_of_one():
    batches = [drawn(np.random.default_rng(s), n) for s, n in enumerate((40, 24, 33))]
    whole, first, second = sums(*batches), sums(*batches[:1]), sums(*batches[1:])
    first.merge(second)
    first.merge(HsicSums())
    own = np.arange(PLACES)
    np.testing.assert_allclose(first.without, whole.without, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(first.scores(own), whole.scores(own))


def test_a_constant_token_and_a_constant_patch_are_left_out():
    tokens, patches = drawn(np.random.default_rng(1), 64)
    tokens[0], patches[1] = 1.0, 2.0
    found, own = sums((tokens, patches)), np.arange(PLACES)
    assert found.scores(own)[0] == localisation_score(found.cka(), own)
    tokens[:] = 1.0
    assert np.isnan(sums((tokens, patches)).scores(own)).all()


def test_the_similarity_of_a_token_without_a_group_is_nearly_that_of_the_other_images():
    tokens, patches = drawn(np.random.default_rng(3), 128)
    found = sums((tokens, patches))
    near = found._similarity(2, np.arange(PLACES))
    assert near.whole.argmax() == found.cka()[2].argmax()
    for group in range(GROUPS):
        kept = np.arange(128) % GROUPS != group
        whole = sums((tokens[:, kept], patches[:, kept])).whole
        exact = whole[2] / np.sqrt(whole[-1])
        error = np.abs(near.without[group] - exact).max()
        assert error < 0.3 * np.abs(exact - near.whole).max()


@pytest.mark.parametrize(("lead", "truth"), [(0.0, 1.0), (0.04, 0.5)])
def test_95_percent_intervals_hold_the_truth_where_all_calls_are_close(lead, truth):
    own, held, means = np.arange(PLACES), [], []
    for trial in range(60):
        random = np.random.default_rng((trial, 7))
        patches = random.normal(size=(PLACES, 60, WIDTH))
        own_share = np.where(own % 2, 0.52, 0.52 - lead)[:, None, None]
        tokens = own_share * patches + (1 - own_share) * np.roll(patches, -1, axis=0)
        found = sums((tokens + 0.5 * random.normal(size=patches.shape), patches))
        score, low, high = percentile_interval(found.scores(own))
        held.append(low <= truth <= high)
        means.append(score)
        assert low <= score <= high
    assert np.mean(means) < 0.75  # where the truth is 1, draws around the score do not reach it
    assert np.mean(held) >= 0.95


def test_a_token_far_ahead_of_its_rivals_is_counted_at_every_level():
    random = np.random.default_rng(5)
    patches = random.normal(size=(PLACES, 96, WIDTH))
    tokens = patches + 0.1 * random.normal(size=patches.shape)
    tokens[0] = tokens[1]
    score, *draws = sums((tokens, patches)).scores(np.arange(PLACES))
    assert score == (PLACES - 1) / PLACES
    assert np.mean(np.array(draws) == score) > 0.99


@pytest.mark.parametrize("n", [4, 20])
def test_fewer_images_than_groups_are_a_group_each(n):
    draws = sums(drawn(np.random.default_rng(2), n)).scores(np.arange(PLACES))
    assert np.isfinite(draws).all()
