"""Claims on receptive fields, residual connections, localisation and probes."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from tests.claims.made import (
    CNN,
    GAP,
    LARGER,
    LESS_AND_MORE,
    VIT,
    by_layer,
    metrics,
    network,
    side,
    untrained,
    verdicts,
)


@pytest.mark.parametrize(("vit", "verdict"), [(0.6, "supported"), (0.1, "not supported")])
def test_a_vits_first_block_sees_farther_or_does_not(vit, verdict):
    result = by_layer([], reach={"v": [0.1, vit, 0.9], "c": [0.1, 0.2, 0.9]})
    found = verdicts([VIT, CNN], receptive_field=result)["R-reach", ("v", "c")]
    assert (side(found), found.value) == (verdict, pytest.approx(vit - 0.2))


@pytest.mark.parametrize(
    ("radius", "value", "verdict"),
    [
        ([1, 2, 3, 3, 5], 3 / 4, "supported"),
        ([1, 5, 5, 5, 5], 1 / 4, "not supported"),
        ([1, 5, 4, 5, 4], 1 / 2, "not supported"),  # half is not most
    ],
)
def test_a_cnns_field_grows_step_by_step_or_at_once(radius, value, verdict):
    found = verdicts([VIT, CNN], receptive_field=by_layer([], reach={"c": radius}))[
        "R-grow", ("c",)
    ]
    assert (side(found), found.value) == (verdict, value)


def test_without_blocks_a_cnns_field_has_no_steps():
    # Its layers are told, but normalising or a ReLU is no step at which a field could grow.
    result = by_layer([], reach={"c": [1, 1, 2, 2, 3]})
    inner = result.data.assign_coords(role=("layer", ["inner"] * 5))
    found = verdicts([VIT, CNN], receptive_field=dataclasses.replace(result, data=inner))
    for claim, models in (("R-grow", ("c",)), ("R-reach", ("v", "c"))):
        assert found[claim, models].verdict == "not applicable"
    assert found["R-grow", ("c",)].detail == "needs repeated blocks, and none were found in c"


def test_a_layer_without_a_field_gives_no_verdict():
    found = verdicts([CNN], receptive_field=by_layer([], reach={"c": [1, np.nan, 3]}))[
        "R-grow", ("c",)
    ]
    assert (found.verdict, found.value) == ("not applicable", None)


@pytest.mark.parametrize(
    ("half", "cls", "claim", "verdict"),
    [
        ("first", 8, "R-skip-cls", "supported"),
        ("first", 2, "R-skip-cls", "not supported"),
        ("second", 2, "R-skip-turn", "supported"),
        ("second", 8, "R-skip-turn", "not supported"),
    ],
)
def test_skips_carry_cls_first_and_patches_later_or_do_not(half, cls, claim, verdict):
    # Two branches a block; the middle one of five blocks is in neither half.
    ratios = np.full((5, 2), np.nan)
    ratios[slice(2) if half == "first" else slice(3, 5)] = cls
    other = {"first": slice(3, 5), "second": slice(2)}[half]
    ratios[other] = 3
    result = by_layer(["branch"], cls_ratio={"v": ratios}, patch_ratio={"v": np.full((5, 2), 4.0)})
    found = verdicts([VIT], residuals=result)[claim, ("v",)]
    assert (side(found), found.value) == (verdict, cls / 4)


@pytest.mark.parametrize(("vit", "verdict"), [(9, "supported"), (1, "not supported")])
def test_a_vits_skips_carry_more_than_a_cnns_or_do_not(vit, verdict):
    ratios = {"v": np.full((5, 2), float(vit)), "c": np.full((5, 2), [np.nan, 3.0])}
    none = {name: np.full((5, 2), np.nan) for name in ratios}
    result = by_layer(["branch"], mean_ratio=ratios, cls_ratio=none, patch_ratio=none)
    found = verdicts([CNN, VIT], residuals=result)["R-skip-cnn", ("v", "c")]
    assert (side(found), found.value) == (verdict, vit / 3)


def places(**scores):
    """Scores of the last block and their chance: 1 of 16 in a ViT, 1 of 4 in a CNN."""
    chance = {"v": 1 / 16, "g": 1 / 16, "c": 1 / 4}
    return metrics(score_last_block=scores, chance={name: chance[name] for name in scores})


@pytest.mark.parametrize(("score", "verdict"), [(0.6, "supported"), (0.5, "not supported")])
def test_most_tokens_keep_their_place_or_do_not(score, verdict):
    found = verdicts([VIT, GAP], localisation=places(v=score))
    assert (side(found["R-place", ("v",)]), found["R-place", ("v",)].value) == (verdict, score)
    assert ("R-place", ("g",)) not in found


@pytest.mark.parametrize(("cnn", "verdict"), [(0.4, "supported"), (0.7, "not supported")])
def test_a_cnns_locations_keep_their_place_less_or_do_not(cnn, verdict):
    found = verdicts([CNN, VIT], localisation=places(v=0.5, c=cnn))["R-place-cnn", ("v", "c")]
    expected = (0.5 - 1 / 16) / (15 / 16) - (cnn - 1 / 4) / (3 / 4)
    assert (side(found), found.value) == (verdict, pytest.approx(expected))


@pytest.mark.parametrize(("claim", "other"), [("R-place-cnn", CNN), ("R-place-gap", GAP)])
def test_a_difference_that_all_draws_share_is_no_surer_than_there_are_draws(claim, other):
    draws = np.stack([np.full(1001, 0.75), np.full(1001, 0.5)])
    data = xr.Dataset({"score_draws": (("network", "draw"), draws)}, {"network": ["v", other.name]})
    result = dataclasses.replace(places(**{"v": 0.75, other.name: 0.5}), data=data)
    (found,) = (
        v for (of, _), v in verdicts([VIT, other], localisation=result).items() if of == claim
    )
    assert found.p == pytest.approx(2 / 1001)


def test_a_coarse_grid_is_no_merit():
    # More of the CNN's locations are in their place, but that is by chance.
    found = verdicts([VIT, CNN], localisation=places(v=0.25, c=0.3))["R-place-cnn", ("v", "c")]
    assert side(found) == "supported"


@pytest.mark.parametrize(("gap", "verdict"), [(0.2, "supported"), (0.8, "not supported")])
def test_tokens_of_a_pooling_vit_keep_their_place_less_or_do_not(gap, verdict):
    found = verdicts([GAP, VIT], localisation=places(v=0.5, g=gap))["R-place-gap", ("v", "g")]
    assert (side(found), found.value) == (verdict, pytest.approx((0.5 - gap) * 16 / 15))


def known(single, *, last_block_mean=0.8):
    """Probes of single tokens; what the classifiers read gives 0.8, and chance is 0.1."""
    means = {name: last_block_mean for name in single if name != "v"}
    known = metrics(
        cls_last_accuracy={"v": 0.8},
        last_block_mean_accuracy=means | {"v": 0.2},  # what the ViT does not read must not count
        chance={"": 0.1},
    )
    read = means | {"v": 0.8}
    shares = {
        name: [np.nan, np.nan, (one - 0.1) / (read[name] - 0.1) if read[name] > 0.1 else np.nan]
        for name, one in single.items()
    }
    return dataclasses.replace(known, data=by_layer([], single_token_share=shares).data)


@pytest.mark.parametrize(("claim", "other"), [("R-token-cnn", "c"), ("R-token-gap", "g")])
@pytest.mark.parametrize(("single", "verdict"), [(0.3, "supported"), (0.7, "not supported")])
def test_single_patch_tokens_know_less_or_do_not(claim, other, single, verdict):
    result = known({"v": single, other: 0.5})
    found = verdicts([GAP, VIT, CNN], probes=result)[claim, ("v", other)]
    assert (side(found), found.value) == (verdict, pytest.approx((single - 0.5) / 0.7))


def test_tokens_are_told_beside_what_their_own_model_knows():
    result = known({"v": 0.3, "c": 0.35}, last_block_mean=0.4)
    found = verdicts([VIT, CNN], probes=result)["R-token-cnn", ("v", "c")]
    assert found.value == pytest.approx(0.2 / 0.7 - 0.25 / 0.3)


@pytest.mark.parametrize("read", [0.1, 0.18])  # 0.18 of 50 images is within chance
def test_a_model_that_knows_nothing_gives_no_verdict(read):
    result = known({"v": 0.3, "c": 0.1}, last_block_mean=read)
    found = verdicts([VIT, CNN], probes=result)["R-token-cnn", ("v", "c")]
    assert (found.verdict, found.value) == ("not applicable", None)
    assert found.detail.startswith("c: a probe of all that its classifier reads")


@pytest.mark.parametrize(("more", "verdict"), [(0.7, "supported"), (0.4, "not supported")])
def test_middle_layers_grow_stronger_with_data_or_do_not(more, verdict):
    result = metrics(middle_accuracy={"v": 0.5, "w": more})
    found = verdicts(LESS_AND_MORE[:2], probes=result)["R-middle-data", ("v", "w")]
    assert (side(found), found.value) == (verdict, pytest.approx(more - 0.5))


@pytest.mark.parametrize(("of_less", "of_more"), [(0.2, 0.2), (0.7, 0.9)])
def test_what_data_does_to_the_middle_is_held_against_both_networks_untrained(of_less, of_more):
    """Not against an untrained one beside the one on more data: a gain could not be supported."""
    networks = [*LESS_AND_MORE[:2], *untrained(LESS_AND_MORE[:2])]
    rated = {"v": 0.5, "w": 0.8, "v0": of_less, "w0": of_more}
    found = verdicts(networks, images=10_000, probes=metrics(middle_accuracy=rated))
    of = found["R-middle-data", ("v", "w")]
    assert (of.value, of.before.value) == pytest.approx((0.8 - 0.5, of_more - of_less))
    assert of.verdict == "supported"


@pytest.mark.parametrize(("larger", "verdict"), [(0.8, "supported"), (0.5, "not supported")])
def test_more_data_strengthens_a_larger_vits_middle_layers_more_or_does_not(larger, verdict):
    result = metrics(middle_accuracy={"v": 0.5, "w": 0.6, "x": 0.45, "y": larger})
    found = verdicts([*LESS_AND_MORE, *LARGER], probes=result)
    of = found["R-size-middle", ("x", "y", "v", "w")]
    assert (side(of), of.value) == (verdict, pytest.approx(larger - 0.45 - (0.6 - 0.5)))


@pytest.mark.parametrize("more", [0.6, 0.9])
def test_the_interval_of_a_difference_of_gains_is_that_of_four_accuracies(more):
    # In the middle Wilson's intervals are all but even, and the four errors add as squares.
    right = {"v": 0.5, "w": 0.5, "x": 0.5, "y": more}
    found = verdicts(
        [*LESS_AND_MORE, *LARGER], images=10_000, probes=metrics(middle_accuracy=right)
    )
    of = found["R-size-middle", ("x", "y", "v", "w")].measurement
    error = np.sqrt(sum(p * (1 - p) / 10_000 for p in right.values()))
    assert of.estimate == pytest.approx(
        (more - 0.5, more - 0.5 - 1.96 * error, more - 0.5 + 1.96 * error), abs=5e-4
    )


@pytest.mark.parametrize(("vit", "verdict"), [(0.7, "supported"), (0.4, "not supported")])
def test_with_enough_data_a_vits_middle_layers_are_stronger_than_a_cnns_or_are_not(vit, verdict):
    result = metrics(middle_accuracy={"v": 0.5, "w": vit, "c": 0.9, "d": 0.6})
    found = verdicts(LESS_AND_MORE, probes=result)
    of = found["R-middle-cnn", ("w", "d")]  # not those on less data
    assert (side(of), of.value) == (verdict, pytest.approx(vit - 0.6))
    assert ("R-middle-cnn", ("v", "c")) not in found
    fewer = verdicts(LESS_AND_MORE[:3], probes=result)["R-middle-cnn", ()]
    assert fewer.verdict == "not applicable"


def test_class_token_and_mean_are_compared_on_the_same_images_only():
    elsewhere = network("g", "vit", "t", arch="vit-gap", class_token=False)
    found = verdicts([VIT, elsewhere], probes=metrics(), localisation=metrics())
    assert found["R-place-gap", ()].verdict == found["R-token-gap", ()].verdict == "not applicable"
