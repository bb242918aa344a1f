import numpy as np
import pytest
import xarray as xr

from tests.claims.made import (
    CNN,
    LESS_AND_MORE,
    VIT,
    by_layer,
    layers,
    metrics,
    network,
    side,
    untrained,
    verdicts,
)
from zoo.study.axes import variable
from zoo.study.results import Result


@pytest.mark.parametrize(("more", "verdict"), [(0.5, "supported"), (0.9, "not supported")])
def test_attention_settles_or_does_not(more, verdict):
    entropy = {"v": np.full((7, 4), 0.8), "w": np.full((7, 4), more)}
    result = by_layer(["head"], normalised_entropy=entropy)
    found = verdicts(LESS_AND_MORE[:2], attention_maps=result)
    assert side(found["Z-attention", ("v", "w")]) == verdict


def test_what_data_does_to_attention_is_held_against_both_networks_untrained():
    """Not against an untrained one beside the one on more data, whose attention settles least."""
    networks = [*LESS_AND_MORE[:2], *untrained(LESS_AND_MORE[:2])]
    entropy = {"v": 0.8, "w": 0.5, "v0": 0.99, "w0": 0.97}
    settled = by_layer(
        ["head"], normalised_entropy={k: np.full((7, 4), v) for k, v in entropy.items()}
    )
    near = {"v": 1, "w": 4, "v0": 2, "w0": 3}
    local = by_layer(
        ["head"],
        distance={k: np.where(np.arange(16) < n, 1.0, 9.0).reshape(4, 4) for k, n in near.items()},
    )
    local = Result(local.data, metrics=metrics(uniform=dict.fromkeys(near, 10.0)).metrics)
    found = verdicts(networks, attention_maps=settled, attention_distance=local)
    assert found["Z-attention", ("v", "w")].before.value == pytest.approx(0.02)
    assert found["R-local-data", ("v", "w")].before.value == -1


FEWER = network("u", "vit", "t", 10)  # the same ViT as `VIT`, trained on fewer images


def distances(*rows, **measured):
    """Attention distances of layers of four heads; 5 pixels are where local ends.

    Another network stands beside it, which has six heads.
    """
    values = np.full((len(rows) + 1, 6), np.nan)
    values[:-1, :4], values[-1] = rows, 1.0
    axis = layers(["v"], count=len(rows))
    other = layers(["o"], count=1)
    both = {key: ("layer", np.concatenate([axis[key][1], other[key][1]])) for key in axis}
    data = xr.Dataset({"distance": variable(("layer", "head"), values)}, both)
    return Result(data, metrics=metrics(uniform={"v": 10.0}, **measured).metrics)


MIXED, WIDE, NEAR = [1, 2, 8, 10], [8, 9, 9, 10], [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("low", "value", "verdict"),
    [
        ([MIXED, WIDE], 1, "supported"),
        ([MIXED, MIXED], 2, "supported"),
        ([WIDE, WIDE], 0, "not supported"),
        ([NEAR, NEAR], 0, "not supported"),
        ([NEAR, WIDE], 0, "not supported"),  # both kinds, but not together
    ],
)
def test_low_layers_hold_local_and_global_heads_together_or_do_not(low, value, verdict):
    result = distances(*low, WIDE, WIDE)
    found = verdicts([FEWER, VIT], attention_distance=result)["R-local-low", ("v",)]
    assert (side(found), found.value) == (verdict, value)
    counts = " and ".join(str(sum(d < 5 for d in layer)) for layer in low)
    assert found.detail == f"{counts} of 4 heads are local in the 2 lowest layers"
    assert found.measurement.count


@pytest.mark.parametrize(
    ("low", "verdict"), [(MIXED, "supported"), ([8, 8, 9, 9], "not supported")]
)
def test_heads_differ_more_in_low_layers_or_do_not(low, verdict):
    result = distances(low, low, WIDE, WIDE)
    found = verdicts([FEWER, VIT], attention_distance=result)["R-local-spread", ("v",)]
    assert (side(found), found.value) == (verdict, pytest.approx((np.ptp(low) - 2) / 10))


@pytest.mark.parametrize(
    ("high", "value", "verdict"), [(WIDE, 1, "supported"), ([4, 9, 9, 9], 7 / 8, "not supported")]
)
def test_all_heads_of_high_layers_are_global_or_one_is_not(high, value, verdict):
    result = distances(MIXED, MIXED, WIDE, high)
    found = verdicts([FEWER, VIT], attention_distance=result)["R-global-high", ("v",)]
    assert (side(found), found.value) == (verdict, value)


def of_groups(distance, error):
    """Distances of networks v and w, (layers, heads), with a standard error over groups."""
    table = {name: np.asarray(distance, float) for name in "vw"}
    result = by_layer(["head"], distance=table)
    moves = np.random.default_rng(0).normal(size=(32, *result.data["distance"].shape))
    moves *= error * np.sqrt(32 / 31) / np.sqrt((moves**2).sum(axis=0))
    known = {"weight": np.full(32, 31 / 32), "freedom": 31}
    without = (("replicate", "layer", "head"), result.data["distance"].values + moves, known)
    data = result.data.assign(distance_without=without)
    return Result(data, metrics=metrics(uniform={"v": 10.0, "w": 10.0}).metrics)


@pytest.mark.parametrize(
    ("error", "share", "mixed", "fewer"),
    [(0.001, (0.5, 0.5), (2, 2), (0, 0)), (1, (0, 1), (0, 2), (-8, 8))],
)
def test_heads_by_the_bound_may_all_be_local_or_none(error, share, mixed, fewer):
    near = of_groups(np.tile([4.9, 5.1], (4, 2)), error)
    found = verdicts(LESS_AND_MORE[:2], attention_distance=near)
    ends = {key: found[key].measurement.estimate[1:] for key in found if found[key].measurement}
    assert ends["R-global-high", ("w",)] == share
    assert ends["R-local-low", ("w",)] == mixed
    assert ends["R-local-data", ("v", "w")] == fewer


def test_heads_of_high_layers_that_look_about_equally_far_may_not_differ_at_all():
    apart, alike = np.tile([1, 4, 8, 12], (2, 1)), np.tile([8.9, 9, 9, 9.1], (2, 1))
    found = verdicts(
        LESS_AND_MORE[:2], attention_distance=of_groups(np.vstack([apart, alike]), 0.5)
    )["R-local-spread", ("w",)].measurement
    assert found.value == pytest.approx(1.08)
    # In two layers a difference of two heads has a standard error of 0.05, and so has the other.
    alone = 2.04 * 0.05 * np.sqrt(2)
    assert found.low == pytest.approx(found.value - alone, abs=0.4 * alone)
    assert found.high > found.value + 1.2 * alone


def test_three_layers_are_too_few_to_tell_low_from_high():
    found = verdicts([FEWER, VIT], attention_distance=distances(MIXED, WIDE, WIDE))
    for claim in ("R-local-low", "R-local-spread", "R-global-high"):
        assert found[claim, ("v",)].verdict == "not applicable"
        assert found[claim, ("v",)].detail == "v: 3 layers have no 2 low and 2 high"


def test_what_needs_much_data_is_asked_of_the_vit_trained_on_most_alone():
    other = network("o", "vit", arch="deit")
    found = verdicts([*LESS_AND_MORE, other], attention_distance=distances(MIXED, *[WIDE] * 3))
    assert {models for claim, models in found if claim == "R-local-low"} == {("w",)}
    alone = verdicts([VIT], attention_distance=distances(MIXED, *[WIDE] * 3))
    assert alone["R-local-low", ()].verdict == "not applicable"


@pytest.mark.parametrize(
    ("less", "verdict"), [(1, "supported"), (4, "not supported"), (5, "not supported")]
)
def test_low_layers_learn_to_be_local_with_data_or_did_so_before(less, verdict):
    near = {"v": less, "w": 4}
    table = {name: np.full((4, 4), 9.0) for name in near}
    for name, count in near.items():
        table[name][:2].flat[:count] = 1
    result = by_layer(["head"], distance=table)
    result = Result(result.data, metrics=metrics(uniform={"v": 10.0, "w": 10.0}).metrics)
    found = verdicts(LESS_AND_MORE[:2], attention_distance=result)["R-local-data", ("v", "w")]
    assert (side(found), found.value) == (verdict, less - 4)
    assert found.measurement.count


def heads(reach, difference):
    pair = ("v", "c")
    return metrics(
        distance_range={pair: reach}, local_minus_global={pair: difference}, patch={"v": 4.0}
    )


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, "supported"), (-0.1, "not supported")])
def test_local_heads_are_more_like_a_cnn_or_are_not(difference, verdict):
    found = verdicts([CNN, VIT], local_heads=heads(2.0, difference))["R-local-heads", ("v", "c")]
    assert (side(found), found.value) == (verdict, difference)


def test_heads_that_look_equally_far_are_not_told_apart():
    found = verdicts([CNN, VIT], local_heads=heads(1.9, 0.1))["R-local-heads", ("v", "c")]
    assert (found.verdict, found.value) == ("not applicable", None)
    assert "under half a patch of 4" in found.detail
