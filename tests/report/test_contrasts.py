"""What one of two networks does more: who comes first, what is decided, whether it was learnt."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from tests.claims import made
from tests.claims.made import metrics, network
from zoo.analyses.robustness import MEASURES
from zoo.report.contrasts import CONTRASTS, KEPT, _Found, contrasts
from zoo.study.results import INITIAL, Result

V, C = network("v", "vit"), network("c", "cnn")


def untrained(of):
    return replace(of, name=f"{of.name} untrained", state=INITIAL, compared=False)


def said(networks, verdicts=(), **results):
    return [of.text for of in contrasts(made.found(networks, **results), verdicts)]


def kept(kind, gap, **values):
    """Accuracy kept under a change, and the difference of the networks c and v."""
    return metrics(**{f"kept_{kind}": values, f"kept_{kind}_difference": {("c", "v"): gap}})


def reach(spread=0.01, **first_block):
    """Receptive fields whose first block reaches so far, which other images move by `spread`."""
    result = made.by_layer((), reach={n: [0.1, *[value] * 6] for n, value in first_block.items()})
    moves = spread * np.array([[-1.0], [0.0], [1.0]]) * (1 + np.arange(result.data.layer.size) % 7)
    without = xr.DataArray(result.data["reach"].values + moves * np.repeat(
        np.arange(1, 1 + len(first_block)), 7), dims=("replicate", "layer"),
        attrs={"weight": np.full(3, 2 / 3), "freedom": 40})  # fmt: skip
    return Result(result.data.assign(reach_without=without))


def verdict_on(claim, p, p_holm=np.nan):
    return SimpleNamespace(claim=SimpleNamespace(id=claim), p=p, p_holm=p_holm)


@pytest.mark.parametrize("order", [[V, C], [C, V]])
def test_the_network_of_the_higher_number_comes_first_whatever_was_asked_first(order):
    tiles = kept("shuffled_tiles", [-0.56, -0.65, -0.47], v=0.78, c=0.22)
    assert said(order, robustness=tiles) == [
        "v keeps more of its accuracy than c: with tiles shuffled 78 % against 22 % "
        "(difference 56 points, 47 to 65). Not tested on untrained networks, which answer by "
        "chance."
    ]


def test_what_guessing_would_keep_is_said():
    tiles = kept("shuffled_tiles", [-0.56, -0.65, -0.47], v=0.78, c=0.22)
    known = metrics(kept_by_guessing={"v": 0.2, "c": 0.1})
    both = Result(metrics=tiles.metrics + known.metrics)
    (text,) = said([C, V], robustness=both)
    assert text.endswith("which answer by chance. Guessing would keep 20 % against 10 %.")


def test_what_chance_explains_is_no_difference():
    noise = kept("jpeg", [0.05, -0.02, 0.12], v=0.9, c=0.95)
    assert said([V, C], robustness=noise) == [
        "No difference found beyond chance, which does not mean that there is none: accuracy kept "
        "(compressed as JPEG)."
    ]


def test_what_has_no_interval_is_not_tested():
    field = reach(v=0.7, c=0.3)
    alone = Result(field.data.drop_vars("reach_without"))
    assert said([V, C], receptive_field=alone) == [
        "Not tested, since there is no interval: how far the first block sees."
    ]


def test_it_is_corrected_together_with_the_claims():
    blur = kept("gaussian_blur", [0.2, 0.04, 0.36], v=0.6, c=0.8)  # p 0.014
    alone, among = (
        said([V, C], [verdict_on("another", p) for p in tests], robustness=blur)[0]
        for tests in ([], [0.5, 0.5, np.nan, 0.9, 0.6])
    )
    assert alone.startswith("c keeps more")
    assert among == (
        "Beyond chance if taken alone, not after correction: c keeps more of its accuracy than v: "
        "blurred 80 % against 60 % (difference 20 points, 4 to 36)."
    )


@pytest.mark.parametrize(("p_holm", "told"), [(0.04, True), (0.06, False)])
def test_where_a_claim_tests_the_same_number_both_are_decided_alike(p_holm, told):
    tiles = kept("shuffled_tiles", [0.2, 0.04, 0.36], v=0.6, c=0.8)
    others = [verdict_on("another", p) for p in (0.5, 0.5, 0.9, 0.6)]
    [text, *_] = said([V, C], [verdict_on("N-shuffled", 0.014, p_holm), *others], robustness=tiles)
    assert text.startswith("c keeps more of its accuracy than v") is told


def test_the_strongest_is_first_and_numbers_of_a_kind_stand_together():
    one = kept("jpeg", [0.1, 0.08, 0.12], v=0.8, c=0.9)
    other = kept("contrast", [0.4, 0.3, 0.5], v=0.2, c=0.6)
    both = Result(metrics=one.metrics + other.metrics)
    lost = metrics(
        lost_to_high_noise={"v": 0.2, "c": 0.1},
        lost_to_high_noise_difference={("v", "c"): [0.1, 0.05, 0.15]},
    )
    first, second = said([V, C], robustness=both, frequency=lost)
    assert first.startswith("c keeps more of its accuracy than v: at lower contrast 60 % against")
    jpeg = "compressed as JPEG 90 % against 80 % (difference 10.0 points, 8.0 to 12.0)"
    assert first.endswith(f"; {jpeg}. Not tested on untrained networks, which answer by chance.")
    assert second.startswith("Noise of high frequencies costs v more accuracy than c: 20 % against")


@pytest.mark.parametrize(
    ("before", "origin"),
    [
        ({"v": 0.3, "c": 0.3}, "Learnt: 30 % against 30 % before training."),
        ({"v": 0.2, "c": 0.6}, "Learnt: 20 % against 60 % before training."),
        # Most of it was there: by hand, 34 of the 40 points.
        ({"v": 0.64, "c": 0.3}, "Strengthened by training: 64 % against 30 % before training."),
        (
            {"v": 0.9, "c": 0.1},
            "Built in, weakened by training: 90 % against 10 % before training.",
        ),
    ],
)
def test_it_says_what_training_made_of_it(before, origin):
    start = {f"{name} untrained": value for name, value in before.items()}
    field = reach(v=0.7, c=0.3, **start)
    (told,) = said([V, C, *map(untrained, [V, C])], receptive_field=field)
    assert told.startswith("The first block of v sees farther than that of c: 70 % against 30 % of")
    assert told.endswith(origin)


def test_a_ratio_of_thousands_is_told_without_decimals():
    ratio = SimpleNamespace(contrast=next(one for one in CONTRASTS if not one.percent))
    assert _Found._against(ratio, (0.956, 705451.51)) == "0.96 against 705,452"  # type: ignore


def test_seeds_are_averaged_and_one_seed_is_said():
    more = [replace(n, name=f"{n.name} 1", seed=1, compared=False) for n in (V, C)]
    field = reach(v=0.7, c=0.3, **{"v 1": 0.8, "c 1": 0.42})
    tiles = kept("shuffled_tiles", [-0.5, -0.6, -0.4], v=0.8, c=0.3)
    first, second = said([V, C, *more], receptive_field=field, robustness=tiles)
    assert first.endswith(
        "Measured in one seed. Not tested on untrained networks, which answer by chance."
    )
    # By hand: differences 0.40 and 0.38, their mean 0.39 ± 12.706 · 0.01; p is 0.016.
    assert "75 % against 36 % of the way" in second
    assert "(difference 39 points, 26 to 52)" in second


def test_what_a_network_keeps_of_answers_by_chance_is_no_difference():
    tiles = kept("shuffled_tiles", [-0.56, -0.65, -0.47], v=0.78, c=0.22)
    for right, told in ((20, 1), (12, 0)):  # of 24 images of two classes
        predicted = np.arange(24) % 2
        predicted = np.stack([predicted, np.where(np.arange(24) < right, predicted, -1)])
        data = xr.Dataset(
            {"predicted": (("network", "image"), predicted)},
            {"network": ["v", "c"], "label": ("image", np.arange(24) % 2)},
        )
        assert len(said([V, C], robustness=tiles, accuracy=Result(data))) == told


def test_nothing_is_said_of_one_network_of_three_or_of_what_was_not_measured():
    tiles = kept("shuffled_tiles", [-0.5, -0.6, -0.4], v=0.8, c=0.3)
    assert said([V], robustness=tiles) == said([V, C, network("d", "cnn")], robustness=tiles) == []
    assert said([V, C]) == said([V, C], robustness=metrics(kept_jpeg={"v": 0.5})) == []


def test_every_change_of_images_is_told_in_words():
    assert {f"kept_{kind}" for kind in KEPT} == set(MEASURES.values())


def test_the_last_blocks_half_of_the_mass_is_a_contrast_of_its_own():
    result = made.by_layer((), core={"v": [0.1] * 7, "c": [*[0.1] * 5, 0.4, 0.1]})
    moves = 0.01 * np.array([[-1.0], [0.0], [1.0]]) * (1 + np.arange(14) % 5)
    result = Result(result.data.assign(core_without=xr.DataArray(
        result.data["core"].values + moves, dims=("replicate", "layer"),
        attrs={"weight": np.full(3, 2 / 3), "freedom": 40})))  # fmt: skip
    [text] = said([V, C], **{"receptive-field": result})
    assert text.startswith(
        "What the last block of c depends on most is spread more widely than in v: 40 % against "
        "10 % of the way from the image's centre to a corner, for half of it (difference 30 "
    )


def test_a_negative_share_has_a_minus_sign():
    tiles = kept("shuffled_tiles", [-0.8, -0.9, -0.7], v=0.78, c=-0.02)
    [text] = said([V, C], robustness=tiles)
    assert "78 % against −2 %" in text
